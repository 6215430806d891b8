#!/bin/sh
# Copies the home folder to another disk. Files that didn't change are hard links to the copy before.
set -eu
source_folder=$HOME
disk=/mnt/backup
today=$(date +%Y-%m-%d)
last=$(ls -1 "$disk" | tail -n 1)
rsync --archive --delete ${last:+--link-dest="$disk/$last"} "$source_folder/" "$disk/$today/"
