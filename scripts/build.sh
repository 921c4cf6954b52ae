#!/usr/bin/env bash
# Build images that are selected by toolkit, version, framework and processor. Calls `rlimages build`.
#   scripts/build.sh -t ray -v 1.6.0 -f tensorflow -p cpu -r us-west-2
set -euo pipefail
# shellcheck source=scripts/environment
. "$(dirname "${BASH_SOURCE[0]}")/environment"
# shellcheck source=scripts/selection
. "$project/scripts/selection"

usage() {
    cat <<END
usage: scripts/build.sh [options] [-- options of rlimages build]
  -t, --toolkit NAME            all by default
  -v, --version VERSION         also --version-number; all by default
  -f, --framework NAME          tensorflow, pytorch or mxnet; all by default
  -p, --processor cpu|gpu       also --arch; both by default
      --line LINE               debian, amzn2023 or public; SageMaker's framework images by default
  -r, --region REGION           AWS region from which SageMaker's images are pulled
  -l, --local-image-tag NAME    second local name of the image; only for one image
END
}

name=''
take_option() {
    case $1 in
        -l | --local-image-tag) name=$2 ;;
        *) return 1 ;;
    esac
}

read_options "$@"
need_rlimages
image=''
if [ -n "$name" ]; then
    mapfile -t images < <(rlimages list --select "$pattern" --json |
        python3 -c 'import json, sys
for cell in json.load(sys.stdin): print(cell["repository"], cell["tags"][0], sep=":")')
    [ "${#images[@]}" -ge 1 ] || exit 5 # rlimages has printed the reason
    [ "${#images[@]}" -le 1 ] || misused "--local-image-tag names one image, and '$pattern' selects ${#images[@]}"
    image=${images[0]}
fi
rlimages build --select "$pattern" ${region:+--region "$region"} ${rest[@]+"${rest[@]}"}
[ -z "$name" ] || docker tag "$image" "$name"
