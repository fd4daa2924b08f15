//! The programs that every image has: those of a small Debian that do no harm to the host.

/// From the packages bash, bsdutils, bzip2, coreutils, dash, diffutils, findutils, grep, gzip,
/// hostname, libc-bin, mawk, openssl, perl-base, procps, sed, tar, util-linux and xz-utils. What
/// stands in place of others comes besides.
const PROGRAMS: &str = "
    [ arch awk b2sum base32 base64 basename basenc bash bunzip2 bzcat bzip2 cat chmod chrt cksum cmp
    column comm cp csplit cut dash date dd df diff diff3 dir dircolors dirname du echo egrep env
    expand expr factor false fgrep find findmnt flock fmt fold free getconf getopt grep groups gunzip
    gzip head hexdump hostid hostname iconv install ionice ipcs join kill ldconfig ldd link ln locale
    logger logname ls mawk md5sum mkdir mkfifo mknod mktemp more mountpoint mv namei nice nl nohup
    nproc numfmt od openssl paste pathchk perl pgrep pidof pinky pmap pr printenv printf prlimit ps
    ptx pwd pwdx readlink realpath renice rev rm rmdir script sdiff sed seq setpriv setsid sh sha1sum
    sha224sum sha256sum sha384sum sha512sum shred shuf sleep sort split stat stdbuf stty sum tac tail
    tar taskset tee test timeout top touch tr true truncate tsort tty uname unexpand uniq unlink unxz
    uptime users vdir vmstat watch wc which who whoami xargs xz xzcat yes zcat zgrep";

/// Their names.
pub(super) fn programs() -> impl Iterator<Item = &'static str> {
    PROGRAMS.split_whitespace()
}
