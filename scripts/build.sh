#!/usr/bin/env bash
# Build images by the options that people know; `rlimages build` does it.
#   scripts/build.sh -t ray -v 1.6.0 -f tensorflow -p cpu -r us-west-2
set -euo pipefail
# shellcheck source=scripts/environment
. "$(dirname "${BASH_SOURCE[0]}")/environment"
# shellcheck source=scripts/selection
. "$project/scripts/selection"

usage() {
    cat <<END
usage: scripts/build.sh [options] [-- options of rlimages build]
  -t, --toolkit NAME            by default all
  -v, --version VERSION         also --version-number; by default all
  -f, --framework NAME          tensorflow, pytorch or mxnet; by default all
  -p, --processor cpu|gpu       also --arch; by default both
      --line LINE               debian, amzn2023 or public; by default SageMaker's framework images
  -r, --region REGION           where SageMaker's images are pulled from
  -l, --local-image-tag NAME    what the image is called here too; for one image
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
    [ "${#images[@]}" -ge 1 ] || exit 5 # the line above says why
    [ "${#images[@]}" -le 1 ] || misused "--local-image-tag names one image, and '$pattern' is ${#images[@]}"
    image=${images[0]}
fi
rlimages build --select "$pattern" ${region:+--region "$region"} ${rest[@]+"${rest[@]}"}
[ -z "$name" ] || docker tag "$image" "$name"
