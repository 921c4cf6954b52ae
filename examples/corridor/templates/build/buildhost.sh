# shellcheck shell=sh
# What the machine that runs the build lends to it: certificates, pip's settings and a folder of wheels.
# To be sourced. The build context `buildhost` is mounted at /run/buildhost while Python packages are
# installed; it is empty unless someone passes `--build-context buildhost=DIR`, with any of these in DIR:
#
#   ca-certificates.crt   who signs for the index (behind a proxy that inspects TLS)
#   pip.conf              index-url, extra-index-url, find-links, trusted-host, timeout, retries
#   wheels/               files to install from, before the index is asked
#
# Paths in pip.conf are those inside the build: file:///run/buildhost/simple and the like.

lent=/run/buildhost

export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore PIP_NO_INPUT=1
if [ -f "$lent/ca-certificates.crt" ]; then
    export SSL_CERT_FILE="$lent/ca-certificates.crt"
    export PIP_CERT="$SSL_CERT_FILE" REQUESTS_CA_BUNDLE="$SSL_CERT_FILE" CURL_CA_BUNDLE="$SSL_CERT_FILE"
fi
if [ -f "$lent/pip.conf" ]; then
    export PIP_CONFIG_FILE="$lent/pip.conf"
fi
if [ -d "$lent/wheels" ]; then
    export PIP_FIND_LINKS="$lent/wheels"
fi

# What is compiled from source packages knows nothing of the folder in which that happened.
export CFLAGS=-g0 CXXFLAGS=-g0

# pip_setting NAME: the value of a key in pip.conf, its lines and words one below the other; nothing without it.
pip_setting() {
    [ -f "$lent/pip.conf" ] || return 0
    awk -v wanted="$1" '
        /^[ \t]*([#;]|$)/ { next }
        /^\[/ { inside = ($0 ~ /^\[(global|install)\]/); key = ""; next }
        !inside { next }
        /^[ \t]/ { value = $0 }
        !/^[ \t]/ { at = index($0, "="); key = substr($0, 1, at - 1); value = substr($0, at + 1)
                    gsub(/[ \t]/, "", key); gsub(/_/, "-", key) }
        key == wanted { count = split(value, words, /[ \t]+/)
                        for (i = 1; i <= count; i++) if (words[i] != "") print words[i] }
    ' "$lent/pip.conf"
}

# uv reads no pip.conf: the same settings in its own words.
lend_to_uv() {
    index=$(pip_setting index-url | tail -n 1)
    if [ -n "$index" ]; then
        export UV_DEFAULT_INDEX="$index"
    fi
    UV_INDEX=$(pip_setting extra-index-url | paste -s -d ' ' -)
    UV_FIND_LINKS=$(pip_setting find-links | paste -s -d , -)
    UV_INSECURE_HOST=$(pip_setting trusted-host | paste -s -d ' ' -)
    if [ -d "$lent/wheels" ]; then
        UV_FIND_LINKS="$lent/wheels${UV_FIND_LINKS:+,$UV_FIND_LINKS}"
    fi
    # pip takes the best file of all indexes; every file is checked against the lock's hashes.
    export UV_INDEX UV_FIND_LINKS UV_INSECURE_HOST UV_INDEX_STRATEGY=unsafe-best-match
    export UV_HTTP_TIMEOUT=180 UV_LINK_MODE=copy UV_NO_PROGRESS=1 UV_NO_CONFIG=1
}
