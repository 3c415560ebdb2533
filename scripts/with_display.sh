#!/usr/bin/env bash
# Runs a command under a virtual X server of its own where there is Xvfb (so that tests never touch the user's screen).
set -eu
if command -v xvfb-run >/dev/null && command -v xauth >/dev/null; then
    exec xvfb-run --auto-servernum --server-args="-screen 0 1600x1200x24 +extension GLX" "$@"
fi
exec "$@"
