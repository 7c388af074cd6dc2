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

  up       Start everything. --replicas N of each service (1), --auth|--wallet|--notify|--scheduler N of that one,
           --gateways N (1; more get nginx in front), --build debug|release (debug; builds what is missing) or
           --programs FOLDER (takes them from there), --durable on|off (on; off is faster and for tests only).
           Variables COFFER_<SERVICE>__*, COFFER_TELEMETRY__* and COFFER_SHUTDOWN__* go on to the programs
  servers  Start PostgreSQL, Redis and RabbitMQ only; their addresses are in DIR/servers.env. --durable as above
  down     Stop everything that was started in DIR, the programs first
  status   Tell what runs
  crash    Kill one process without warning: --name NAME
  stop     Ask one process to stop and wait until it has: --name NAME
  start    Start one process again that has stopped: --name NAME; --wait on waits until it is ready

DIR is target/local unless told otherwise. Servers that are missing are installed (Debian, as root).
TEXT
}

say() { printf '%s\n' "$*"; }
fail() { printf 'local.sh: %s\n' "$*" >&2; exit 1; }

# --- processes: DIR/NAME holds run (how to start it), pid, log and its data ---------------------------------------

# Whether the very process that was started lives: its number may have gone to another since.
is_running() {
    local pid
    pid=$(cat "$dir/$1/pid" 2>/dev/null) && [ "$(born "$pid")" = "$(cat "$dir/$1/born" 2>/dev/null)" ]
}

# When a process was born, in ticks of the system; nothing when there is none, or only its remains.
born() {
    local stat
    stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
    # shellcheck disable=SC2086
    set -- ${stat##*) }
    [ "$1" != Z ] && printf '%s\n' "${20}"
}

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
    born "$pid" >"$dir/$name/born" || fail "$name has ended at once; its log is $dir/$name/log"
}

# Sends a signal and waits until the process has gone; after SECONDS it is killed.
end() {
    local name=$1 signal=$2 seconds=$3 pid waited=0
    is_running "$name" || return 0
    pid=$(cat "$dir/$name/pid")
    # A process that is killed can tell its children nothing, so they are killed with it.
    if [ "$signal" = KILL ]; then pid=-$pid; fi
    kill -s "$signal" -- "$pid" 2>/dev/null || true
    pid=${pid#-}
    while is_running "$name"; do
        if [ "$waited" -ge $((seconds * 20)) ]; then
            say "$name did not stop in ${seconds} s and is killed" >&2
            kill -s KILL -- "-$pid" 2>/dev/null || true
            sleep 0.2
            break
        fi
        sleep 0.05
        waited=$((waited + 1))
    done
    rm -f "$dir/$name/pid" "$dir/$name/born"
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
            # Of what is for tests only nothing is left behind.
            [ "$durable" = on ] || : >"$dir/postgres/remove_data"
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
export RABBITMQ_NODENAME=coffer@localhost RABBITMQ_NODE_PORT=$rabbitmq_port RABBITMQ_DIST_PORT=$dist
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

# --- programs --------------------------------------------------------------------------------------------------------

ask() {
    local line
    exec 3<>"/dev/tcp/$HOST/$1" || return 1
    printf 'GET %s HTTP/1.1\r\nhost: %s\r\nconnection: close\r\n\r\n' "$2" "$HOST" >&3
    read -r line <&3 || true
    exec 3<&- 3>&-
    case $line in *' 200 '*) return 0 ;; *) return 1 ;; esac
}
is_ready() { (ask "$1" /health/ready) 2>/dev/null; }

# The settings of the caller that concern a program: those of its section and those that all have.
passed_on() {
    local variable
    for variable in "${!COFFER_@}"; do
        case $variable in
            "COFFER_${1}__"* | COFFER_TELEMETRY__* | COFFER_SHUTDOWN__*)
                printf 'export %s=%q\n' "$variable" "${!variable}" ;;
        esac
    done
}

# Each program sees its own settings and no others: it refuses those that it does not have.
define_program() {
    local name=$1 program=$2 section=$3
    free_port
    metrics_ports[$name]=$port
    mkdir -p "$dir/$name"
    printf '%s\n' "$port" >"$dir/$name/health_port"
    {
        printf 'unset "${!COFFER_@}"\n'
        printf 'export COFFER_KEYS_DIR=%q COFFER_METRICS__LISTEN=%s:%s\n' "$dir/keys" "$HOST" "$port"
        cat
        passed_on "$section"
        printf 'exec %q\n' "$programs/$program"
    } | define "$name"
}

define_service() {
    local name=$1 short=$2 section=${2^^}
    free_port
    addresses[$short]+="${addresses[$short]:+,}http://$HOST:$port"
    local own=
    case $short in
        notify) own="export COFFER_REDIS__URL=redis://$HOST:$redis_port COFFER_NOTIFY__MAIL__FOLDER=$(printf %q "$dir/mail") COFFER_NOTIFY__MAIL__PUBLIC_URL=http://$HOST:$public_port" ;;
        scheduler) own="export COFFER_SCHEDULER__SIMULATOR__JOURNAL=$(printf %q "$dir/sms-simulator.jsonl")" ;;
    esac
    [ "$short" = auth ] || own+="
export COFFER_SERVICES__AUTH=${addresses[auth]}"
    define_program "$name" "$short-service" "$section" <<ENV
export COFFER_GRPC_LISTEN=$HOST:$port
export COFFER_RABBITMQ__URL=amqp://guest:guest@$HOST:$rabbitmq_port/%2f
export COFFER_${section}__DATABASE__URL=postgres://coffer@$HOST:$postgres_port/$short
$own
ENV
}

define_gateway() {
    define_program "$1" gateway GATEWAY <<ENV
export COFFER_HTTP_LISTEN=$HOST:$2 COFFER_REDIS__URL=redis://$HOST:$redis_port
export COFFER_SERVICES__AUTH=${addresses[auth]} COFFER_SERVICES__WALLET=${addresses[wallet]}
export COFFER_SERVICES__NOTIFY=${addresses[notify]} COFFER_SERVICES__SCHEDULER=${addresses[scheduler]}
export COFFER_GATEWAY__TRUSTED_PROXIES='["$HOST"]'
ENV
}

define_nginx() {
    local one
    mkdir -p "$dir/nginx"
    {
        cat <<CONF
daemon off;
worker_processes 1;
pid $dir/nginx/nginx.pid;
error_log stderr warn;
events { worker_connections 8192; }
http {
    access_log off;
    client_body_temp_path $dir/nginx/body;
    proxy_temp_path $dir/nginx/proxy;
    fastcgi_temp_path $dir/nginx/fastcgi;
    uwsgi_temp_path $dir/nginx/uwsgi;
    scgi_temp_path $dir/nginx/scgi;
    map \$http_upgrade \$connection_upgrade { default upgrade; '' ''; }
    upstream gateways {
CONF
        for one in "$@"; do printf '        server %s:%s max_fails=1 fail_timeout=1s;\n' "$HOST" "$one"; done
        cat <<CONF
        keepalive 256;
    }
    server {
        listen $HOST:$public_port backlog=4096;
        client_max_body_size 0;
        location / {
            proxy_pass http://gateways;
            proxy_http_version 1.1;
            proxy_request_buffering off;
            proxy_buffering off;
            proxy_read_timeout 120s;
            proxy_set_header Host \$host;
            proxy_set_header X-Forwarded-For \$remote_addr;
            proxy_set_header Upgrade \$http_upgrade;
            proxy_set_header Connection \$connection_upgrade;
        }
    }
}
CONF
    } >"$dir/nginx/nginx.conf"
    define nginx <<RUN
exec $(PATH=$PATH:/usr/sbin command -v nginx) -e stderr -p '$dir/nginx' -c '$dir/nginx/nginx.conf'
RUN
}

up() {
    local service short number count names=() gateway_ports=()
    declare -gA metrics_ports=() addresses=()
    if [ -z "$programs" ]; then
        programs=$root/target/$build
        case $build in
            debug) (cd "$root" && cargo build --locked --workspace --bins) ;;
            release) (cd "$root" && cargo build --locked --workspace --bins --release) ;;
            *) usage >&2; exit 64 ;;
        esac
    fi
    programs=$(cd "$programs" && pwd)
    if [ "$gateways" -gt 1 ]; then install_missing with-nginx; else install_missing without-nginx; fi
    servers
    [ -e "$dir/keys" ] || "$programs/coffer" keys create --dir "$dir/keys" >"$dir/keys.log"
    free_port
    public_port=$port
    for service in "${SERVICES[@]}"; do
        short=${service%-service}
        count=${counts[$short]:-$replicas}
        for ((number = 1; number <= count; number++)); do
            names+=("$service-$number")
            define_service "$service-$number" "$short"
        done
    done
    for ((number = 1; number <= gateways; number++)); do
        if [ "$gateways" -gt 1 ]; then free_port; else port=$public_port; fi
        gateway_ports+=("$port")
        names+=("gateway-$number")
        define_gateway "gateway-$number" "$port"
    done
    # A service that was defined before its last replica does not know all of them: auth-service comes first.
    for name in "${names[@]}"; do launch "$name"; done
    for name in "${names[@]}"; do await "$name" is_ready "${metrics_ports[$name]}"; done
    if [ "$gateways" -gt 1 ]; then
        define_nginx "${gateway_ports[@]}"
        launch nginx
        await nginx is_ready "$public_port"
    fi
    {
        printf 'COFFER_URL=http://%s:%s\n' "$HOST" "$public_port"
        for number in "${!gateway_ports[@]}"; do
            printf 'COFFER_GATEWAY_%s=http://%s:%s\n' $((number + 1)) "$HOST" "${gateway_ports[$number]}"
        done
    } >"$dir/coffer.env"
    say ''
    say "  API          http://$HOST:$public_port   (try: $programs/coffer demo --url http://$HOST:$public_port --mail-dir $dir/mail)"
    for name in "${names[@]}"; do
        printf '  %-20s metrics http://%s:%s/metrics, log %s\n' "$name" "$HOST" "${metrics_ports[$name]}" "$dir/$name/log"
    done
    say "  PostgreSQL   postgres://coffer@$HOST:$postgres_port   (databases: ${DATABASES[*]})"
    say "  RabbitMQ     amqp://guest:guest@$HOST:$rabbitmq_port"
    say "  Redis        redis://$HOST:$redis_port"
    say "  mails        $dir/mail"
    say "  stop         deploy/local/local.sh down --dir $dir"
}

# --- commands ----------------------------------------------------------------------------------------------------------

command=${1:-}
[ $# -gt 0 ] && shift
dir=$root/target/local
replicas=1 gateways=1 build=debug programs= durable=on name= wait_for=off
declare -A counts=()
while [ $# -gt 0 ]; do
    [ $# -ge 2 ] || { usage >&2; exit 64; }
    case $1 in
        --dir) dir=$2 ;;
        --replicas) replicas=$2 ;;
        --gateways) gateways=$2 ;;
        --auth | --wallet | --notify | --scheduler) counts[${1#--}]=$2 ;;
        --programs) programs=$2 ;;
        --build) build=$2 ;;
        --durable) durable=$2 ;;
        --name) name=$2 ;;
        --wait) wait_for=$2 ;;
        *) usage >&2; exit 64 ;;
    esac
    shift 2
done
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)

case $command in
    up) up ;;
    servers)
        install_missing without-nginx
        servers
        cat "$dir/servers.env"
        ;;
    down)
        # Those in front first, so that what they have let in still finds those behind.
        for kind in 'nginx gateway-*' '*-service-*'; do
            for path in $(cd "$dir" && ls -d $kind 2>/dev/null); do end "$path" TERM 60 & done
            wait
        done
        end redis TERM 10 &
        # SIGINT: connections are closed, everything is written.
        end postgres INT 30 &
        end rabbitmq TERM 60 &
        wait
        # The name server of Erlang outlives its node.
        if [ -e "$dir/rabbitmq/env" ]; then
            (. "$dir/rabbitmq/env" && epmd -kill >/dev/null 2>&1) || true
        fi
        if [ -e "$dir/postgres/remove_data" ] && [ -L "$dir/postgres/data" ]; then
            rm -rf "$(readlink -f "$dir/postgres/data")" "$dir/postgres/data" "$dir/postgres/remove_data"
        fi
        rm -f "$dir/servers.env" "$dir/coffer.env"
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
    stop)
        is_running "$name" || fail "$name does not run"
        # At SIGTERM PostgreSQL waits for its clients, which never leave.
        case $name in postgres) end postgres INT 30 ;; *) end "$name" TERM 60 ;; esac
        ;;
    start)
        [ -e "$dir/$name/run" ] || fail "there is no $name in $dir"
        launch "$name"
        if [ "$wait_for" = on ] && [ -e "$dir/$name/health_port" ]; then
            await "$name" is_ready "$(cat "$dir/$name/health_port")"
        fi
        ;;
    *)
        usage >&2
        exit 64
        ;;
esac
