//! A real database: psql gets the password that it needs, and nobody else.

use crate::{host_with_a_secret, live};
use jsi_tests::{PEERS, Postgres, needs_root, not_run};

#[test]
fn psql_gets_its_password_through_jsi_exec() {
    needs_root!();
    let Some(server) = Postgres::start() else {
        not_run(module_path!(), line!(), "PostgreSQL is not installed (Debian: postgresql)");
        return;
    };
    let (host, _) = host_with_a_secret();
    let replace =
        ["secret", "put", "--replace", "db/orders", "--owner", "dba", "--purpose", "orders"];
    host.admin(replace).input(&server.password).run().succeeded();
    let psql = server.program("psql").display().to_string();
    let query = format!(
        "PGHOST={} PGUSER=admin PGDATABASE=postgres jsi exec -e PGPASSWORD=db/orders -- \
         {psql} -AtXc 'select 40 + 2'",
        server.host().display()
    );
    let out = host.shell(PEERS[0], &query).run().succeeded().printed("42");
    assert!(!out.stderr.contains(&server.password));
    host.await_record("ended", "process_exited");
    assert!(live(&host).is_empty());

    // Another uid gets neither the password nor an answer.
    host.shell(PEERS[1], &query).run().coded(125).without(&server.password);
    // And nothing but the password opened the database.
    let bare = query.replace("jsi exec -e PGPASSWORD=db/orders -- ", "");
    let refused = host.shell(PEERS[0], &format!("{bare} -w")).run();
    assert_ne!(refused.code, 0, "{refused}");
}
