#!/usr/bin/env bash
# Installs the system packages that Qt, OpenGL and Xvfb need, where it may; else prints the line to run.
# It never fails: without them everything still works but the napari window and its tests.
set -u
[ "$(uname -s)" = Linux ] || exit 0
PATH="$PATH:/usr/sbin:/sbin"

missing=()
libraries=$(ldconfig -p 2>/dev/null)
while read -r package library; do
    grep -qF "$library" <<<"$libraries" || missing+=("$package")
done <<'LIST'
libegl1 libEGL.so.1
libgl1 libGL.so.1
libopengl0 libOpenGL.so.0
libglib2.0-0 libglib-2.0.so.0
libdbus-1-3 libdbus-1.so.3
libfontconfig1 libfontconfig.so.1
libxkbcommon-x11-0 libxkbcommon-x11.so.0
libxcb-cursor0 libxcb-cursor.so.0
libxcb-icccm4 libxcb-icccm.so.4
libxcb-image0 libxcb-image.so.0
libxcb-keysyms1 libxcb-keysyms.so.1
libxcb-randr0 libxcb-randr.so.0
libxcb-render-util0 libxcb-render-util.so.0
libxcb-shape0 libxcb-shape.so.0
libxcb-xkb1 libxcb-xkb.so.1
LIST
command -v xvfb-run >/dev/null || missing+=(xvfb)
command -v xauth >/dev/null || missing+=(xauth)
[ -d /usr/share/fonts/truetype ] || missing+=(fonts-dejavu-core)
"${PYTHON:-python3}" -c "import ensurepip, venv" 2>/dev/null || missing+=(python3-venv)
[ ${#missing[@]} -eq 0 ] && exit 0

as_root=()
[ "$(id -u)" -eq 0 ] || as_root=(sudo)
if ! command -v apt-get >/dev/null; then
    echo "Missing on this system (names of Debian packages): ${missing[*]}" >&2
elif [ "$(id -u)" -eq 0 ] || sudo -n true 2>/dev/null; then
    "${as_root[@]}" apt-get update -q &&
        "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}" ||
        echo "Installing ${missing[*]} failed; going on without." >&2
else
    echo "Please run:  sudo apt-get update && sudo apt-get install -y ${missing[*]}" >&2
fi
exit 0
