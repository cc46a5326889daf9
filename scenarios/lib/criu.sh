# CRIU for live migration, of a version that knows today's kernels (4.2 or newer). To be sourced after host.sh.
#
# Debian's own releases have none or an older one, so it is taken from Debian's sid: the packages are fetched
# over the mirror that the host uses anyway, unpacked into a folder, and never installed. A small program of
# the same name runs it with the C library that came along.

# offer_criu FOLDER: names in STAPES_CRIU a program `criu`, unless there is a good one already. Without one
# everything else works, so that a host that cannot have it (no Debian, no mirror) is only told so.
offer_criu() {
    local folder=$1
    if [ -n "${STAPES_CRIU:-}" ] || criu_is_good criu; then return 0; fi
    if ! criu_is_good "$folder/criu"; then
        say "fetching CRIU"
        fetch_criu "$folder" || {
            note "CRIU could not be fetched: guests move without a stop only where it is there"
            return 0
        }
    fi
    export STAPES_CRIU=$folder/criu
}

# criu_is_good PROGRAM: whether it runs and is 4.2 or newer.
criu_is_good() {
    command -v "$1" >/dev/null || return 1
    local version
    version=$("$1" --version 2>/dev/null | sed -n 's/^Version: \([0-9.]*\).*/\1/p')
    [ -n "$version" ] && [ "$(printf '4.2\n%s\n' "$version" | sort -V | head -n 1)" = 4.2 ]
}

fetch_criu() {
    local folder=$1 work archive options
    command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || return 1
    work=$(mktemp -d) || return 1
    mkdir -p "$work/lists/partial" "$work/archives/partial" "$work/root"
    sid_source >"$work/sid.list"
    options=(-o "Dir::Etc::sourcelist=$work/sid.list" -o Dir::Etc::sourceparts=- -o Dir::Etc::preferencesparts=-
        -o Dir::Etc::preferences=- -o "Dir::State::lists=$work/lists" -o Dir::State::status=/dev/null
        -o "Dir::Cache::archives=$work/archives" -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache=
        -o Debug::NoLocking=1 -o APT::Sandbox::User=root)
    # Nothing counts as installed: what CRIU needs comes along, the C library first.
    if [ -s "$work/sid.list" ] &&
        apt-get -q "${options[@]}" update >"$work/log" 2>&1 &&
        apt-get -q -y "${options[@]}" --no-install-recommends --download-only install criu >>"$work/log" 2>&1
    then
        for archive in "$work"/archives/*.deb; do dpkg-deb -x "$archive" "$work/root" || return 1; done
        write_criu_program "$work/root" "$folder"
    else
        tail -n 5 "$work/log" >&2
    fi
    rm -rf "$work"
    criu_is_good "$folder/criu"
}

# The first source of Debian itself that apt has here, with its suite changed.
sid_source() {
    {
        cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list 2>/dev/null |
            sed -n 's/^deb \+\(\[[^]]*\] \+\)\?\([^ ]\+\) .*/\2/p'
        sed -n 's/^URIs: *\([^ ]\+\).*/\1/p' /etc/apt/sources.list.d/*.sources 2>/dev/null
    } | grep '/debian/\?$' | head -n 1 | while read -r mirror; do
        echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror sid main"
    done
}

# Whether root may ask for the limits of others' processes (CAP_SYS_RESOURCE), as it may on a host that
# is not itself confined.
may_see_limits() {
    (($((16#$(sed -n 's/^CapEff:[[:space:]]*//p' /proc/self/status))) >> 24 & 1))
}

# write_limits FILE: a library with which CRIU reads limits where everybody may read them. Without a
# compiler there is none, and CRIU says what it lacks.
write_limits() {
    command -v cc >/dev/null || return 0
    cc -shared -fPIC -O2 -x c -o "$1" - <<'LIMITS'
#define _GNU_SOURCE
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <dlfcn.h>

static rlim64_t number(const char *text) {
    return strcmp(text, "unlimited") ? strtoull(text, NULL, 10) : RLIM64_INFINITY;
}

/* /proc/PID/limits has a heading, and then the limits in their order. */
static int from_proc(long pid, long resource, struct rlimit64 *limit) {
    char path[64], line[256], soft[32], hard[32];
    snprintf(path, sizeof(path), "/proc/%ld/limits", pid);
    FILE *file = fopen(path, "re");
    if (!file) return -1;
    long at = -2, found = -1;
    while (at < resource && fgets(line, sizeof(line), file)) at++;
    if (at == resource && sscanf(line + 26, "%31s %31s", soft, hard) == 2) {
        limit->rlim_cur = number(soft);
        limit->rlim_max = number(hard);
        found = 0;
    }
    fclose(file);
    return found;
}

long syscall(long call, ...) {
    static long (*original)(long, ...);
    long arguments[6];
    va_list list;
    va_start(list, call);
    for (int at = 0; at < 6; at++) arguments[at] = va_arg(list, long);
    va_end(list);
    if (!original) original = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
    long answer = original(call, arguments[0], arguments[1], arguments[2], arguments[3], arguments[4], arguments[5]);
    if (call == SYS_prlimit64 && answer == -1 && errno == EPERM && arguments[0] && !arguments[2] &&
        !from_proc(arguments[0], arguments[1], (struct rlimit64 *)arguments[3]))
        return 0;
    return answer;
}
LIMITS
}

# Puts what was unpacked in place, and the program before it, which appears last and whole.
write_criu_program() {
    local root=$1 folder=$2
    rm -rf "$folder"
    mkdir -p "$folder"
    mv "$root" "$folder/root"
    cat >"$folder/criu.new" <<'PROGRAM'
#!/bin/sh
# CRIU with the libraries that it was built for.
root=$(dirname "$(readlink -f "$0")")/root
case $(uname -m) in
x86_64) loader=ld-linux-x86-64.so.2 triplet=x86_64-linux-gnu ;;
*) loader=ld-linux-aarch64.so.1 triplet=aarch64-linux-gnu ;;
esac
libraries=$root/usr/lib/$triplet:$root/lib/$triplet
[ ! -e "$root/limits.so" ] || set -- --preload "$root/limits.so" "$root/usr/sbin/criu" "$@"
[ -e "$root/limits.so" ] || set -- "$root/usr/sbin/criu" "$@"
exec "$root/usr/lib/$triplet/$loader" --library-path "$libraries" "$@"
PROGRAM
    may_see_limits || write_limits "$folder/root/limits.so"
    chmod 755 "$folder/criu.new"
    mv "$folder/criu.new" "$folder/criu"
}
