-- A database per service, each with an owner of its own who cannot enter the others.
CREATE ROLE auth LOGIN PASSWORD 'trial';
CREATE ROLE wallet LOGIN PASSWORD 'trial';
CREATE ROLE notify LOGIN PASSWORD 'trial';
CREATE ROLE scheduler LOGIN PASSWORD 'trial';
CREATE DATABASE auth OWNER auth;
CREATE DATABASE wallet OWNER wallet;
CREATE DATABASE notify OWNER notify;
CREATE DATABASE scheduler OWNER scheduler;
REVOKE CONNECT ON DATABASE auth, wallet, notify, scheduler FROM PUBLIC;
