#!/bin/sh
# What needs no doing on an instance that is only a folder.
exit 0
