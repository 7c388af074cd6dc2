#!/usr/bin/env bash
# The distributed product on one machine, as plain processes: PostgreSQL, Redis, RabbitMQ, the services, the gateways.
# README.md beside this file tells how to use it.
set -euo pipefail

readonly HOST=127.0.0.1
readonly DATABASES=(auth wallet notify scheduler)
readonly SERVICES=(auth-service wallet-service notify-service scheduler-service)

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)

usage() {
    cat <<'TEXT'
deploy/local/local.sh COMMAND [--dir DIR]

  up       Start everything. --replicas N of each service (1), --gateways N (1; more get nginx in front),
           --build debug|release (debug), --durable on|off (on; off is faster and for tests only)
  servers  Start PostgreSQL, Redis and RabbitMQ only; their addresses are in DIR/servers.env. --durable as above
  down     Stop everything that was started in DIR, the programs first
  status   Tell what runs
  crash    Kill one process without warning: --name NAME
  start    Start one process again that has stopped: --name NAME

DIR is target/local unless told otherwise. Servers that are missing are installed (Debian, as root).
TEXT
}

say() { printf '%s\n' "$*"; }
fail() { printf 'local.sh: %s\n' "$*" >&2; exit 1; }

# --- processes: DIR/NAME holds run (how to start it), pid, log and its data ---------------------------------------

is_running() {
    local pid
    pid=$(cat "$dir/$1/pid" 2>/dev/null) || return 1
    # A number that was given to another process since does not count.
    [ -n "$pid" ] && [ "$(cat "/proc/$pid/comm" 2>/dev/null || ps -o comm= -p "$pid" 2>/dev/null)" != "" ] \
        && [ "$(started_at "$pid")" = "$(cat "$dir/$1/started" 2>/dev/null)" ]
}

started_at() { ps -o lstart= -p "$1" 2>/dev/null || true; }

# Makes the script with which NAME is started; the rest is its body.
define() {
    local name=$1
    mkdir -p "$dir/$name"
    { printf '#!/usr/bin/env bash\n# How %s is started.\ncd "$(dirname "$0")"\n' "$name"; cat; } >"$dir/$name/run"
    chmod 700 "$dir/$name/run"
}

launch() {
    local name=$1
    is_running "$name" && fail "$name runs already"
    setsid nohup "$dir/$name/run" >>"$dir/$name/log" 2>&1 </dev/null &
    local pid=$!
    disown "$pid"
    printf '%s\n' "$pid" >"$dir/$name/pid"
    started_at "$pid" >"$dir/$name/started"
}

# Sends a signal and waits until the process has gone; after SECONDS it is killed.
end() {
    local name=$1 signal=$2 seconds=$3 pid waited=0
    is_running "$name" || return 0
    pid=$(cat "$dir/$name/pid")
    kill -s "$signal" "$pid" 2>/dev/null || true
    while is_running "$name"; do
        if [ "$waited" -ge $((seconds * 20)) ]; then
            say "$name did not stop in ${seconds} s and is killed" >&2
            kill -s KILL -- "-$pid" 2>/dev/null || kill -s KILL "$pid" 2>/dev/null || true
            sleep 0.2
            break
        fi
        sleep 0.05
        waited=$((waited + 1))
    done
    rm -f "$dir/$name/pid" "$dir/$name/started"
}

# Waits until a command succeeds; gives up after a minute, or at once when the process has gone.
await() {
    local name=$1 waited=0
    shift
    until "$@" >/dev/null 2>&1; do
        is_running "$name" || { tail -n 20 "$dir/$name/log" >&2; fail "$name has ended; its log is $dir/$name/log"; }
        [ "$waited" -lt 1200 ] || { tail -n 20 "$dir/$name/log" >&2; fail "$name did not get ready"; }
        sleep 0.05
        waited=$((waited + 1))
    done
}

answers() { (exec 3<>"/dev/tcp/$HOST/$1") 2>/dev/null; }

# A port that nobody uses, below those that the system gives to clients; each is given once.
given=' '
free_port() {
    while :; do
        port=$((20000 + RANDOM % 12000))
        case $given in *" $port "*) continue ;; esac
        answers "$port" && continue
        given="$given$port "
        return
    done
}

# --- servers ---------------------------------------------------------------------------------------------------------

postgres_bin() {
    local found
    found=$(command -v postgres || ls -d /usr/lib/postgresql/*/bin/postgres 2>/dev/null | sort -V | tail -n 1)
    [ -n "$found" ] && dirname "$(readlink -f "$found")"
}

install_missing() {
    local missing=()
    [ -n "$(postgres_bin)" ] || missing+=(postgresql)
    command -v redis-server >/dev/null || missing+=(redis-server)
    [ -x /usr/lib/rabbitmq/bin/rabbitmq-server ] || missing+=(rabbitmq-server)
    [ "$1" = with-nginx ] && { command -v nginx >/dev/null || [ -x /usr/sbin/nginx ] || missing+=(nginx-light); }
    [ ${#missing[@]} -eq 0 ] && return
    command -v apt-get >/dev/null || fail "please install: ${missing[*]}"
    [ "$(id -u)" = 0 ] || fail "please install, or run this as root: ${missing[*]}"
    say "installing ${missing[*]}"
    # Debian would start each of them as a service of the system.
    local policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
        trap 'rm -f /usr/sbin/policy-rc.d' EXIT
    fi
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >"$dir/install.log" 2>&1 \
        || { tail -n 20 "$dir/install.log" >&2; fail 'the installation failed'; }
}

start_postgres() {
    local bin data as=() sync=on
    bin=$(postgres_bin)
    data=$dir/postgres/data
    mkdir -p "$dir/postgres"
    if [ "$(id -u)" = 0 ]; then
        # The server refuses to run as root. Its own user may not be able to reach DIR; then its data lie elsewhere.
        as=(setpriv --reuid postgres --regid postgres --init-groups)
        if ! "${as[@]}" test -x "$dir/postgres"; then
            [ -L "$data" ] || ln -s "$(mktemp -d -t coffer-postgres-XXXXXX)" "$data"
        fi
        mkdir -p "$data"
        chown postgres: "$(readlink -f "$data")"
        chmod 700 "$(readlink -f "$data")"
    fi
    data=$(readlink -f "$data")
    if [ ! -e "$data/PG_VERSION" ]; then
        "${as[@]}" "$bin/initdb" -D "$data" -U coffer -E UTF8 --locale=C.UTF-8 --auth=trust \
            --no-instructions >"$dir/postgres/initdb.log" 2>&1 || { cat "$dir/postgres/initdb.log" >&2; fail 'initdb failed'; }
    fi
    [ "$durable" = on ] || sync=off
    free_port
    postgres_port=$port
    define postgres <<RUN
exec ${as[*]} '$bin/postgres' -D '$data' -p $port -c listen_addresses=$HOST -c unix_socket_directories= \\
    -c max_connections=400 -c shared_buffers=256MB -c fsync=$sync -c full_page_writes=$sync -c synchronous_commit=$sync
RUN
    launch postgres
    postgres_bin=$bin
}

start_redis() {
    free_port
    redis_port=$port
    define redis <<RUN
exec redis-server --bind $HOST --port $port --dir '$dir/redis' --save '' --appendonly no
RUN
    launch redis
}

start_rabbitmq() {
    mkdir -p "$dir/rabbitmq"
    free_port; rabbitmq_port=$port
    free_port; local dist=$port
    free_port; local epmd=$port
    printf '[].\n' >"$dir/rabbitmq/enabled_plugins"
    cat >"$dir/rabbitmq/rabbitmq.conf" <<CONF
listeners.tcp.1 = $HOST:$rabbitmq_port
log.console = true
log.console.level = warning
vm_memory_high_watermark.absolute = 1GB
disk_free_limit.absolute = 100MB
CONF
    cat >"$dir/rabbitmq/env" <<ENV
export HOME='$dir/rabbitmq' ERL_EPMD_PORT=$epmd ERL_EPMD_ADDRESS=$HOST
export RABBITMQ_NODENAME=coffer-$rabbitmq_port@localhost RABBITMQ_NODE_PORT=$rabbitmq_port RABBITMQ_DIST_PORT=$dist
export RABBITMQ_MNESIA_BASE='$dir/rabbitmq/data' RABBITMQ_LOG_BASE='$dir/rabbitmq/logs'
export RABBITMQ_ENABLED_PLUGINS_FILE='$dir/rabbitmq/enabled_plugins' RABBITMQ_CONFIG_FILE='$dir/rabbitmq/rabbitmq.conf'
export RABBITMQ_CONF_ENV_FILE=/dev/null RABBITMQ_PID_FILE='$dir/rabbitmq/erlang.pid'
export RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS='+sbwt none +sbwtdcpu none +sbwtdio none'
ENV
    define rabbitmq <<'RUN'
. ./env
exec /usr/lib/rabbitmq/bin/rabbitmq-server
RUN
    launch rabbitmq
}

servers() {
    [ -e "$dir/servers.env" ] && is_running postgres && fail "servers run already in $dir; stop them with: local.sh down"
    start_rabbitmq
    start_postgres
    start_redis
    await postgres "$postgres_bin/pg_isready" -q -h $HOST -p "$postgres_port" -U coffer
    await redis answers "$redis_port"
    await rabbitmq answers "$rabbitmq_port"
    local name
    for name in "${DATABASES[@]}"; do
        "$postgres_bin/psql" -qAt -h $HOST -p "$postgres_port" -U coffer -d postgres \
            -c "select 1 from pg_database where datname = '$name'" | grep -q 1 \
            || "$postgres_bin/createdb" -h $HOST -p "$postgres_port" -U coffer "$name"
    done
    cat >"$dir/servers.env" <<ENV
COFFER_TEST_POSTGRES_URL=postgres://coffer@$HOST:$postgres_port/postgres
COFFER_TEST_REDIS_URL=redis://$HOST:$redis_port
COFFER_TEST_AMQP_URL=amqp://guest:guest@$HOST:$rabbitmq_port/%2f
ENV
}

# --- commands ----------------------------------------------------------------------------------------------------------

command=${1:-}
[ $# -gt 0 ] && shift
dir=$root/target/local
replicas=1 gateways=1 build=debug durable=on name=
while [ $# -gt 0 ]; do
    [ $# -ge 2 ] || { usage >&2; exit 64; }
    case $1 in
        --dir) dir=$2 ;;
        --replicas) replicas=$2 ;;
        --gateways) gateways=$2 ;;
        --build) build=$2 ;;
        --durable) durable=$2 ;;
        --name) name=$2 ;;
        *) usage >&2; exit 64 ;;
    esac
    shift 2
done
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)

case $command in
    servers)
        install_missing without-nginx
        servers
        cat "$dir/servers.env"
        ;;
    down)
        for path in "$dir"/*/run; do
            [ -e "$path" ] || continue
            one=$(basename "$(dirname "$path")")
            case $one in postgres | redis | rabbitmq) ;; *) end "$one" TERM 40 & ;; esac
        done
        wait
        end redis TERM 10 &
        # SIGINT: connections are closed, everything is written.
        end postgres INT 30 &
        end rabbitmq TERM 60 &
        wait
        # The name server of Erlang outlives its node.
        if [ -e "$dir/rabbitmq/env" ]; then
            (. "$dir/rabbitmq/env" && epmd -kill >/dev/null 2>&1) || true
        fi
        rm -f "$dir/servers.env"
        ;;
    status)
        for path in "$dir"/*/run; do
            [ -e "$path" ] || { say "nothing was started in $dir"; break; }
            one=$(basename "$(dirname "$path")")
            if is_running "$one"; then say "$one runs, process $(cat "$dir/$one/pid")"; else say "$one does not run"; fi
        done
        ;;
    crash)
        is_running "$name" || fail "$name does not run"
        # PostgreSQL is told to stop at once without writing anything: its own word for a crash.
        case $name in postgres) end postgres QUIT 10 ;; *) end "$name" KILL 10 ;; esac
        ;;
    start)
        [ -e "$dir/$name/run" ] || fail "there is no $name in $dir"
        launch "$name"
        ;;
    *)
        usage >&2
        exit 64
        ;;
esac
