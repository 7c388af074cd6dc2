#!/usr/bin/env bash
# Run by the image of PostgreSQL when its volume is new: a database per service, each with an owner who cannot enter the others.
set -euo pipefail

for name in auth wallet notify scheduler; do
    psql --quiet --set ON_ERROR_STOP=1 --set name="$name" --set password="$(cat "/run/secrets/$name-database-password")" \
        --username postgres --dbname postgres <<'SQL'
CREATE ROLE :"name" LOGIN PASSWORD :'password';
CREATE DATABASE :"name" OWNER :"name";
REVOKE CONNECT ON DATABASE :"name" FROM PUBLIC;
SQL
done
