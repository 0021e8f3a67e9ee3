#!/bin/sh
# Write a file from base64 on standard input, once all of it has arrived: a lost connection ends
# standard input, too.
#
# usage: upload.sh SIZE PATH
text=$(cat)
[ "${#text}" -eq "$1" ] || {
    echo 'error: the upload was incomplete' >&2
    exit 1
}
printf %s "$text" | base64 -d > "$2"
