#!/bin/sh
# Installs the Debian packages that a napari window on a virtual screen needs, where they are
# missing. Other systems: nothing is done. Usage: system_packages.sh [python]
set -eu
python=${1:-python3}

if ! command -v dpkg-query >/dev/null 2>&1 || ! command -v apt-get >/dev/null 2>&1; then
    echo "Not a Debian system: install the libraries of Qt 6 and OpenGL yourself if some are missing."
    exit 0
fi

wanted="xvfb xauth libegl1 libgl1 libgl1-mesa-dri libopengl0 libglib2.0-0 libfontconfig1
    libxkbcommon-x11-0 libxcb-cursor0 libxcb-icccm4 libxcb-image0 libxcb-keysyms1 libxcb-randr0
    libxcb-render-util0 libxcb-shape0 libxcb-xinerama0 libdbus-1-3"

is_installed() {
    # Newer releases name some of these with a suffix (libglib2.0-0t64), which provides the old name.
    dpkg-query --show --showformat '${db:Status-Status} ${Package} ${Provides}\n' 2>/dev/null |
        tr ',' ' ' | grep '^installed ' | tr ' ' '\n' | grep -qxF "$1"
}

missing=""
for package in $wanted; do
    is_installed "$package" || missing="$missing $package"
done
if ! "$python" -c "import ensurepip, venv" >/dev/null 2>&1; then
    missing="$missing python3-venv"
fi
[ -n "$missing" ] || exit 0

echo "Installing system packages:$missing"
as_root=""
if [ "$(id -u)" -ne 0 ]; then
    as_root="sudo"
    command -v sudo >/dev/null 2>&1 || { echo "Neither root nor sudo: install$missing." >&2; exit 1; }
fi
$as_root apt-get update -qq
# shellcheck disable=SC2086
$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing
