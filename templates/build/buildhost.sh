# shellcheck shell=sh
# Apply the build machine's settings for downloads: certificates, pip's configuration and a folder of wheels.
# Source this file. The build context `buildhost` is mounted at /run/buildhost while Python packages are installed. It is
# empty unless the build passes `--build-context buildhost=DIR`. DIR may have any of these:
#
#   ca-certificates.crt   certificates to trust, for a proxy that inspects TLS
#   pip.conf              index-url, extra-index-url, find-links, trusted-host, timeout, retries
#   wheels/               files that take part beside those of the index
#
# Paths in pip.conf are paths inside the build, such as file:///run/buildhost/simple.

buildhost=/run/buildhost

export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore PIP_NO_INPUT=1
if [ -f "$buildhost/ca-certificates.crt" ]; then
    export SSL_CERT_FILE="$buildhost/ca-certificates.crt"
    export PIP_CERT="$SSL_CERT_FILE" REQUESTS_CA_BUNDLE="$SSL_CERT_FILE" CURL_CA_BUNDLE="$SSL_CERT_FILE"
fi
if [ -f "$buildhost/pip.conf" ]; then
    export PIP_CONFIG_FILE="$buildhost/pip.conf"
fi
if [ -d "$buildhost/wheels" ]; then
    export PIP_FIND_LINKS="$buildhost/wheels"
fi

# Debug information would contain the path of the temporary build folder, so that no two builds gave the same file.
export CFLAGS=-g0 CXXFLAGS=-g0

# Print the value of a key in pip.conf, one word a line. Print nothing if the file or the key is missing.
pip_setting() { # NAME
    [ -f "$buildhost/pip.conf" ] || return 0
    awk -v wanted="$1" '
        /^[ \t]*([#;]|$)/ { next }
        /^\[/ { inside = ($0 ~ /^\[(global|install)\]/); key = ""; next }
        !inside { next }
        /^[ \t]/ { value = $0 }
        !/^[ \t]/ { at = index($0, "="); key = substr($0, 1, at - 1); value = substr($0, at + 1)
                    gsub(/[ \t]/, "", key); gsub(/_/, "-", key) }
        key == wanted { count = split(value, words, /[ \t]+/)
                        for (i = 1; i <= count; i++) if (words[i] != "") print words[i] }
    ' "$buildhost/pip.conf"
}

# Export the settings of pip.conf as uv's variables, because uv does not read that file.
configure_uv() {
    index=$(pip_setting index-url | tail -n 1)
    if [ -n "$index" ]; then
        export UV_DEFAULT_INDEX="$index"
    fi
    UV_INDEX=$(pip_setting extra-index-url | paste -s -d ' ' -)
    UV_FIND_LINKS=$(pip_setting find-links | paste -s -d , -)
    UV_INSECURE_HOST=$(pip_setting trusted-host | paste -s -d ' ' -)
    if [ -d "$buildhost/wheels" ]; then
        UV_FIND_LINKS="$buildhost/wheels${UV_FIND_LINKS:+,$UV_FIND_LINKS}"
    fi
    # Like pip, take the best file of all indexes. uv calls this unsafe; here every file is checked against a hash.
    export UV_INDEX UV_FIND_LINKS UV_INSECURE_HOST UV_INDEX_STRATEGY=unsafe-best-match
    export UV_HTTP_TIMEOUT=180 UV_LINK_MODE=copy UV_NO_PROGRESS=1 UV_NO_CONFIG=1
}
