#!/busybox/sh
# Makes the keys in the volume /keys, once, and gives each program a folder with those that it needs. Runs each time that the
# product is started: `coffer keys create` refuses to overwrite, so it is asked only where there are none.
set -eu
cd /keys

if [ ! -d all ]; then
    # The name that counts is given when all of it is there.
    rm -rf new
    coffer keys create --dir /keys/new
    mv new all
fi

give() {
    mkdir -p "$1"
    for file in service.key lookup.key mail.pub $2; do
        cp "all/$file" "$1/$file.new"
        chown 65532:65532 "$1/$file.new"
        chmod 0400 "$1/$file.new"
        mv -f "$1/$file.new" "$1/$file"
    done
    chown 65532:65532 "$1"
    chmod 0500 "$1"
}
give gateway ''
give auth "$(cd all && echo signing-*.pem)"
give wallet ''
give notify mail.key
give scheduler ''
