"""A look at the outline in a box: a second opinion on one slice, drawn from edges and greys."""
