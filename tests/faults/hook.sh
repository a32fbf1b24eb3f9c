#!/bin/sh
# The hook of the tests of faults: writes down when it began and ended, for which step, and waits while it is told to.
# Its argument is a folder with the log; while a file "wait" is there, a switch goes on when "go" is there too.
say() { echo "$(date +%s.%N) $AS2CERTS_OPERATION $AS2CERTS_PHASE $1" >> "$2/log"; }
say begin "$1"
if [ "$AS2CERTS_PHASE" = switch ] && [ -e "$1/wait" ]; then
    tries=0
    until [ -e "$1/go" ] || [ "$tries" -gt 400 ]; do
        tries=$((tries + 1))
        sleep 0.05
    done
fi
say end "$1"
