# Sign-in from a password file: two projects, an administrator and a reader. Sourced by real.sh.
# shellcheck shell=bash

# as USER COMMAND...: through `openstack`, signed in as that user (the password is the name, backwards). With
# http_basic the clients take the endpoint as it is, so it names the version.
as() {
    local user=$1
    shift
    OS_AUTH_TYPE=http_basic OS_USERNAME=$user OS_PASSWORD=$(rev <<<"$user") OS_ENDPOINT=$URL/v2 "$@"
}

password_line() { printf '%s:%s\n' "$(htpasswd -nbB -C 5 "$1" "$(rev <<<"$1")" | tr -d '\n')" "$2"; }

check_sign_in() {
    local file=$WORK/users.htpasswd mine public
    {
        password_line alice project-a:member,reader
        password_line bob project-b:member,reader
        password_line carol project-a:reader
        password_line root-of-all project-ops:admin
    } >"$file"
    chmod 600 "$file"
    head -c 2000000 /dev/urandom >"$WORK/mine.bin"
    check "http-basic: the node starts" start_node "$WORK/basic" --auth http-basic --htpasswd "$file"
    same "http-basic: no name, no list" 401 "$(status_of "$URL/v2/images")"
    same "http-basic: a wrong password" 401 "$(status_of -u alice:wrong "$URL/v2/images")"
    same "http-basic: a name that is not in the file" 401 "$(status_of -u mallory:x "$URL/v2/images")"
    mine=$(as alice openstack image create --private --disk-format raw --container-format bare \
        --file "$WORK/mine.bin" -f value -c id mine 2>"$WORK/said") || true
    matches "http-basic: openstack image create as alice" '^[0-9a-f-]{36}$' "$mine"
    same "http-basic: the owner is her project" project-a \
        "$(as alice openstack image show -f value -c owner "$mine" 2>&1)"
    check "http-basic: carol, same project, sees it" as carol openstack image show "$mine"
    same "http-basic: but as a reader has no bytes" 403 \
        "$(status_of -u "carol:$(rev <<<carol)" "$URL/v2/images/$mine/file")"
    check "http-basic: alice saves it" as alice openstack image save --file "$WORK/saved" "$mine"
    check "http-basic: the same bytes" cmp "$WORK/mine.bin" "$WORK/saved"
    same "http-basic: carol may only read" 403 "$(status_of -u "carol:$(rev <<<carol)" "$URL/v2/images" \
        -H 'Content-Type: application/json' -d '{"name":"no"}')"
    same "http-basic: for bob, another project, it is not there" 404 \
        "$(status_of -u "bob:$(rev <<<bob)" "$URL/v2/images/$mine")"
    same "http-basic: nor its bytes" 404 "$(status_of -u "bob:$(rev <<<bob)" "$URL/v2/images/$mine/file")"
    same "http-basic: nor in his list" '' "$(as bob openstack image list -f value -c ID 2>&1)"
    refused "http-basic: openstack image delete as bob" as bob openstack image delete "$mine"
    refused "http-basic: alice may not publish" as alice openstack image set --public "$mine"
    check "http-basic: the administrator may" as root-of-all openstack image set --public "$mine"
    check "http-basic: now bob sees it" as bob openstack image show "$mine"
    public=$(as bob openstack image list -f value -c ID 2>&1) || true
    same "http-basic: also in his list" "$mine" "$public"
    same "http-basic: but may not change it" 403 "$(status_of -u "bob:$(rev <<<bob)" -X DELETE "$URL/v2/images/$mine")"
    check "http-basic: deactivated by the administrator" as root-of-all openstack image set --deactivate "$mine"
    refused "http-basic: nobody but the administrator downloads it" \
        as alice openstack image save --file "$WORK/saved" "$mine"
    refused "http-basic: no password is in the log" grep -q "$(rev <<<alice)" "$NODE_LOG"
    check "http-basic: stop" stop_node
    rm -rf "$WORK/basic" "$WORK/saved"
}
