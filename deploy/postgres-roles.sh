#!/bin/sh
# Runs once, when compose.yaml's PostgreSQL makes its data folder: the role that the API service works under. It owns
# nothing; `api-service migrate` grants it what it needs (DATABASE_SERVICE_ROLE).
set -eu
# psql reads the variable from its own standard input's quoting, so that no password is part of the text of a statement.
psql --set=ON_ERROR_STOP=1 --username="$POSTGRES_USER" --dbname="$POSTGRES_DB" \
    --set=password="$(cat /run/secrets/postgres_service_password)" <<'SQL'
create role chat_service login password :'password';
revoke all on schema public from public;
SQL
