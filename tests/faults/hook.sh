#!/bin/sh
# The hook of the tests of faults: writes down when it began and ended, for which step, and waits while it is told to.
# For a station of the AS2 system that the file "away" names it says that it can't reach it (status 75).
# Its argument is a folder with the log; while a file "wait" is there, a switch goes on when "go" is there too.
say() { echo "$(date +%s.%N) $AS2CERTS_OPERATION $AS2CERTS_PHASE $1" >> "$2/log"; }
say begin "$1"
case "$AS2CERTS_STATION" in */"$(cat "$1/away" 2>/dev/null || echo nobody)"/*) exit 75 ;; esac
if [ "$AS2CERTS_PHASE" = switch ] && [ -e "$1/wait" ]; then
    tries=0
    until [ -e "$1/go" ] || [ "$tries" -gt 400 ]; do
        tries=$((tries + 1))
        sleep 0.05
    done
fi
say end "$1"
