-- Rows that are counted up inside transactions; updating one also locks it until the commit.
CREATE TABLE counters (
    name TEXT NOT NULL PRIMARY KEY,
    value BIGINT NOT NULL
);
INSERT INTO counters (name, value) VALUES ('events', 0), ('audit', 0), ('tenants', 0), ('ports', 0);

CREATE TABLE tenants (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    quota TEXT NOT NULL,
    id_base BIGINT NOT NULL UNIQUE,
    network_index BIGINT NOT NULL UNIQUE,
    created_at BIGINT NOT NULL,
    version BIGINT NOT NULL
);

CREATE TABLE users (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    password_hash TEXT NOT NULL,
    role TEXT NOT NULL,
    tenant TEXT REFERENCES tenants (id) ON DELETE RESTRICT,
    created_at BIGINT NOT NULL
);

CREATE TABLE sessions (
    secret_hash TEXT NOT NULL PRIMARY KEY,
    user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    csrf_token TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);
CREATE INDEX sessions_by_user ON sessions (user_id);

CREATE TABLE tokens (
    id TEXT NOT NULL PRIMARY KEY,
    user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    secret_hash TEXT NOT NULL UNIQUE,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    last_used_at BIGINT,
    UNIQUE (user_id, name)
);

CREATE TABLE setup (
    id BIGINT NOT NULL PRIMARY KEY CHECK (id = 1),
    secret_hash TEXT NOT NULL,
    created_at BIGINT NOT NULL
);

CREATE TABLE containers (
    id TEXT NOT NULL PRIMARY KEY,
    tenant TEXT NOT NULL REFERENCES tenants (id) ON DELETE RESTRICT,
    name TEXT NOT NULL,
    spec TEXT NOT NULL,
    cpu_millis BIGINT,
    memory_bytes BIGINT,
    desired TEXT NOT NULL,
    state TEXT NOT NULL,
    generation BIGINT NOT NULL,
    error TEXT,
    exit TEXT,
    restart_count BIGINT NOT NULL,
    image_digest TEXT,
    command_line TEXT NOT NULL,
    pid BIGINT,
    address TEXT,
    ports TEXT NOT NULL,
    cgroup_path TEXT,
    created_at BIGINT NOT NULL,
    started_at BIGINT,
    finished_at BIGINT,
    version BIGINT NOT NULL,
    UNIQUE (tenant, name)
);
CREATE INDEX containers_by_age ON containers (created_at, id);

CREATE TABLE container_labels (
    container TEXT NOT NULL REFERENCES containers (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (container, name)
);

CREATE TABLE volumes (
    id TEXT NOT NULL PRIMARY KEY,
    tenant TEXT NOT NULL REFERENCES tenants (id) ON DELETE RESTRICT,
    name TEXT NOT NULL,
    labels TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    UNIQUE (tenant, name)
);

CREATE TABLE container_volumes (
    container TEXT NOT NULL REFERENCES containers (id) ON DELETE CASCADE,
    volume TEXT NOT NULL REFERENCES volumes (id) ON DELETE RESTRICT,
    PRIMARY KEY (container, volume)
);
CREATE INDEX container_volumes_by_volume ON container_volumes (volume);

CREATE TABLE images (
    tenant TEXT NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
    reference TEXT NOT NULL,
    manifest_digest TEXT NOT NULL,
    size_bytes BIGINT NOT NULL,
    platform TEXT NOT NULL,
    built_at TEXT,
    pulled_at BIGINT NOT NULL,
    PRIMARY KEY (tenant, reference)
);
CREATE INDEX images_by_digest ON images (manifest_digest);

-- An address belongs to one container and a container has one address.
CREATE TABLE addresses (
    address TEXT NOT NULL PRIMARY KEY,
    tenant TEXT NOT NULL REFERENCES tenants (id) ON DELETE RESTRICT,
    container TEXT NOT NULL UNIQUE REFERENCES containers (id) ON DELETE CASCADE
);
CREATE INDEX addresses_by_tenant ON addresses (tenant);

-- Published ports of the host; host_ip '' is every address.
CREATE TABLE ports (
    protocol TEXT NOT NULL,
    host_port BIGINT NOT NULL,
    host_ip TEXT NOT NULL,
    container TEXT NOT NULL REFERENCES containers (id) ON DELETE CASCADE,
    container_port BIGINT NOT NULL,
    PRIMARY KEY (protocol, host_port, host_ip)
);
CREATE INDEX ports_by_container ON ports (container);

CREATE TABLE events (
    seq BIGINT NOT NULL PRIMARY KEY,
    at BIGINT NOT NULL,
    kind TEXT NOT NULL,
    tenant TEXT,
    subject TEXT NOT NULL,
    subject_name TEXT NOT NULL,
    detail TEXT NOT NULL
);
CREATE INDEX events_by_tenant ON events (tenant, seq);

CREATE TABLE audit (
    seq BIGINT NOT NULL PRIMARY KEY,
    at BIGINT NOT NULL,
    actor TEXT NOT NULL,
    address TEXT,
    request_id TEXT NOT NULL,
    action TEXT NOT NULL,
    tenant TEXT,
    subject TEXT NOT NULL,
    outcome TEXT NOT NULL,
    detail TEXT NOT NULL
);
