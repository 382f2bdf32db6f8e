#!/bin/sh
# Makes one archive from which install.sh installs streamclust on a station without internet. Run it where there is some.
set -eu

usage() {
    cat <<'EOF'
usage: build-wheelhouse.sh [options]

  --python 3.11          Python of the station (default: that of this machine)
  --platform TAG         its platform, as manylinux_2_28_x86_64 (default: this machine, with whatever has to be compiled)
  --extras train,parquet extras to take along (default: none)
  --torch-index-url URL  address of PyTorch's CPU wheel index; without it the extra train takes the CUDA build, some 3 GB
  --out DIR              where the archive goes (default: dist)

example: build-wheelhouse.sh --python 3.11 --platform manylinux_2_28_x86_64
pip's own settings (PIP_INDEX_URL and the like) hold.
EOF
}

fail() {
    echo "build-wheelhouse.sh: $*" >&2
    exit 1
}

python_version='' platform='' extras='' torch_index='' out=dist
while [ $# -gt 0 ]; do
    case $1 in
        -h | --help) usage; exit 0 ;;
        --python | --platform | --extras | --torch-index-url | --out)
            [ $# -ge 2 ] || { usage >&2; exit 2; }
            case $1 in
                --python) python_version=$2 ;;
                --platform) platform=$2 ;;
                --extras) extras=$2 ;;
                --torch-index-url) torch_index=$2 ;;
                --out) out=$2 ;;
            esac
            shift 2 ;;
        *) usage >&2; exit 2 ;;
    esac
done

python=${PYTHON:-python3}
source=$(CDPATH='' cd "$(dirname "$0")/../.." && pwd)
[ -f "$source/pyproject.toml" ] || fail "$source is not the source of streamclust"
[ -n "$python_version" ] || python_version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
case $python_version in
    3.11 | 3.12 | 3.13) ;;
    *) fail "Python $python_version: must be 3.11, 3.12 or 3.13" ;;
esac
case $platform in
    '' | *_x86_64) arch=x86_64 ;;
    *_aarch64) arch=aarch64 ;;
    *) fail "--platform $platform: must end with x86_64 or aarch64" ;;
esac
case ,$extras, in
    *,train,* | *,umap,*) [ -n "$torch_index" ] || echo "note: without --torch-index-url PyTorch comes with CUDA, some 3 GB" >&2 ;;
esac

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
bundle=$work/streamclust-station
wheels=$bundle/wheels
mkdir -p "$wheels" "$bundle/systemd"

"$python" -m pip wheel --quiet --no-deps --wheel-dir "$wheels" "$source"
wheel=$(find "$wheels" -name 'streamclust-*.whl')
version=$(basename "$wheel" | cut -d- -f2)

own=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
if [ -z "$platform" ] && [ "$python_version" = "$own" ]; then
    # For a machine like this one: what has no wheel is compiled here (obspy has none for aarch64). A station has no compiler.
    get() { "$python" -m pip wheel --quiet --wheel-dir "$wheels" "$@"; }
else
    # For another one: ready wheels only, of its platform and of all older ones.
    get() {
        set -- --quiet --only-binary=:all: --python-version "$python_version" --dest "$wheels" "$@"
        if [ -n "$platform" ]; then
            set -- --platform "$platform" "$@"
            for older in manylinux_2_28 manylinux_2_27 manylinux_2_26 manylinux_2_24 manylinux_2_17 manylinux2014 linux; do
                set -- --platform "${older}_$arch" "$@"
            done
        fi
        "$python" -m pip download "$@"
    }
fi
: > "$work/constraints"
if [ -n "$torch_index" ]; then
    # PyTorch from its own index alone, and then exactly that one: never a mixture of two.
    get --index-url "$torch_index" 'torch>=2.6,<3'
    torch=$(find "$wheels" -name 'torch-*.whl' -exec basename {} \; | cut -d- -f2 | sed 's/%2[Bb]/+/')
    echo "torch==$torch" > "$work/constraints"
fi
get --find-links "$wheels" --constraint "$work/constraints" "$wheel${extras:+[$extras]}" \
    || fail "not all packages have wheels for it; run this on a machine like the station, with a C compiler, without --platform"

cp "$source/deploy/station/install.sh" "$bundle/install.sh"
cp "$source"/deploy/systemd/* "$bundle/systemd/"
cp "$source/config.yaml" "$bundle/config.reference.yaml"
printf '%s\n' "$version" > "$bundle/VERSION"
printf '%s\n' "$python_version" > "$bundle/PYTHON"
printf '%s\n' "$extras" > "$bundle/EXTRAS"
(cd "$bundle" && find . -type f -print0 | sort -z | xargs -0 sha256sum) > "$work/SHA256SUMS"
mv "$work/SHA256SUMS" "$bundle/SHA256SUMS"

mkdir -p "$out"
archive=$out/streamclust-station-$version-py$python_version${platform:+-$platform}.tar.gz
tar -C "$work" -czf "$archive" streamclust-station
echo "$archive"
echo "on the station, as root: tar -xzf $(basename "$archive") && sh streamclust-station/install.sh"
