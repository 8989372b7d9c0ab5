//! The disk below the audit log is full, the log is deleted, its volume is read-only: what cannot be put on record is not
//! done, and what was done is on record.

use std::time::Duration;

use super::{AUDIT_FOLDER, all_ready, metric, pods, process};
use crate::e2e::harness::{RELEASE, Tenant, eventually, kubectl, on_node, tenant};

/// Asks one replica, by its address, up to so many times or until it refuses; each request carries an id of its own.
const ASK: &str = r#"
import socket, ssl, uuid
context = ssl.create_default_context(cafile=ca)
host = url.removeprefix("https://")
def ask(method="GET", body=b""):
    id = str(uuid.uuid4())
    with context.wrap_socket(socket.create_connection((IP, 8443), timeout=15), server_hostname=host) as tls:
        tls.sendall(f"{method} /secrets/watched?api-version=7.4 HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token()}\r\n"
            f"x-ms-client-request-id: {id}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body)
        data = b""
        while chunk := tls.recv(65536):
            data += chunk
    head, _, reply = data.partition(b"\r\n\r\n")
    return int(head.split()[1]), id, json.loads(reply)
done = []
for _ in range(TIMES):
    status, id, reply = ask()
    if status != 200:
        print(status, reply["error"]["message"], sep="|")
        break
    done.append(id)
else:
    print("200|")
print(*done)
if UNTIL_REFUSED:
    print(ask("PUT", b'{"value": "not on record"}')[0])
"#;

/// What came of asking a replica: the last status, its message, and the ids of what was done.
struct Asked {
    status: String,
    message: String,
    done: Vec<String>,
}

fn ask(tenant: &Tenant, pod: &str, times: u32) -> Asked {
    let ip = kubectl(
        &["-n", RELEASE, "get", "pod", pod, "-o", "jsonpath={.status.podIP}"],
        None,
    )
    .ok();
    let said = tenant
        .python(
            "client",
            &format!("IP, TIMES, UNTIL_REFUSED = '{ip}', {times}, False\n{ASK}"),
        )
        .ok();
    let mut lines = said.lines();
    let (status, message) = lines.next().unwrap().split_once('|').unwrap();
    Asked {
        status: status.to_owned(),
        message: message.to_owned(),
        done: lines
            .next()
            .unwrap_or("")
            .split_whitespace()
            .map(str::to_owned)
            .collect(),
    }
}

fn ready(pod: &str) -> bool {
    let path = "jsonpath={.status.conditions[?(@.type==\"Ready\")].status}";
    kubectl(&["-n", RELEASE, "get", "pod", pod, "-o", path], None).stdout == "True"
}

/// Everything that the log in a replica's folder says now.
fn log(process: u32) -> String {
    on_node(&format!("cat /proc/{process}/root{AUDIT_FOLDER}/*.log"))
        .unwrap()
        .ok()
}

/// A file system over the folder of a replica's log, until this is dropped.
struct Over(u32);

impl Over {
    fn mount(process: u32, options: &str) -> Self {
        let command =
            format!("mount --namespace /proc/{process}/ns/mnt -t tmpfs -o {options} tmpfs {AUDIT_FOLDER}");
        on_node(&command).unwrap().ok();
        Self(process)
    }
}

impl Drop for Over {
    fn drop(&mut self) {
        // `umount --namespace` looks for the folder before it enters; setns (308) and umount2 (166, MNT_DETACH) do not.
        let process = self.0;
        let command = format!(
            r#"perl -e 'open(my $ns, "<", "/proc/{process}/ns/mnt") or die "open: $!";
            syscall(308, fileno($ns), 0x20000) == 0 or die "setns: $!";
            my $folder = "{AUDIT_FOLDER}"; syscall(166, $folder, 2) == 0 or die "umount2: $!"'"#
        );
        let said = on_node(&command).expect("a node");
        assert!(said.success || std::thread::panicking(), "{}", said.stderr);
    }
}

#[test]
#[ignore = "needs a cluster"]
fn what_cannot_be_put_on_record_is_not_done_and_what_was_done_is_on_record() {
    all_ready();
    let replica = pods("serve").into_iter().next().expect("a replica");
    let Some(process) = process(&replica) else { return };
    let tenant = tenant("what_cannot_be_put_on_record");
    tenant.vault(&["get", "set"]);
    tenant.pod("client", "app", None);
    tenant
        .python("client", "client.set_secret('watched', 'before')")
        .ok();

    // Deleted under us: the next line begins a new file.
    let before = metric(
        &replica,
        "strongroom_audit_incidents_total{incident=\"replaced\"}",
    )
    .unwrap();
    on_node(&format!("rm /proc/{process}/root{AUDIT_FOLDER}/audit.log"))
        .unwrap()
        .ok();
    let asked = ask(&tenant, &replica, 20);
    assert_eq!(
        (asked.status.as_str(), asked.done.len()),
        ("200", 20),
        "{}",
        asked.message
    );
    on_record(&log(process), &asked.done);
    let after = metric(
        &replica,
        "strongroom_audit_incidents_total{incident=\"replaced\"}",
    )
    .unwrap();
    assert!(after > before, "it is told");

    // Full: what found room is on record, the rest is refused.
    let full = Over::mount(process, "size=256k,mode=0777");
    let asked = ask(&tenant, &replica, 2_000);
    println!(
        "full after {} requests: {} {}",
        asked.done.len(),
        asked.status,
        asked.message
    );
    assert!(!asked.done.is_empty(), "there was some room");
    refuses(&tenant, &replica, &asked);
    on_record(&log(process), &asked.done);
    drop(full);
    heals(&tenant, &replica);

    // Read-only.
    let read_only = Over::mount(process, "ro");
    eventually("it notices", Duration::from_secs(5), || {
        let asked = ask(&tenant, &replica, 1);
        (asked.status == "503").then_some(())
    });
    refuses(&tenant, &replica, &ask(&tenant, &replica, 1));
    drop(read_only);
    heals(&tenant, &replica);
    all_ready();
}

/// Each of these has its line.
#[track_caller]
fn on_record(log: &str, done: &[String]) {
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("SecretGet")).collect();
    for id in done {
        assert!(
            lines.iter().any(|line| line.contains(id)),
            "request {id} was answered and is not on record"
        );
    }
}

/// The replica refuses, is not ready, and the other one does its work.
#[track_caller]
fn refuses(tenant: &Tenant, replica: &str, asked: &Asked) {
    assert_eq!(asked.status, "503");
    assert!(
        asked.message.contains("The audit record cannot be written"),
        "{}",
        asked.message
    );
    let ip = kubectl(
        &[
            "-n",
            RELEASE,
            "get",
            "pod",
            replica,
            "-o",
            "jsonpath={.status.podIP}",
        ],
        None,
    )
    .ok();
    let write = format!("IP, TIMES, UNTIL_REFUSED = '{ip}', 0, True\n{ASK}");
    let said = tenant.python("client", &write).ok();
    assert_eq!(said.lines().last(), Some("503"), "a change is refused too");
    eventually("it is not ready", Duration::from_secs(10), || {
        (!ready(replica)).then_some(())
    });
    assert_eq!(metric(replica, "strongroom_audit_writable"), Some(0.0));
    let value = tenant
        .python("client", "print(client.get_secret('watched').value)")
        .ok();
    assert_eq!(
        value.trim(),
        "before",
        "the other replica serves, and nothing was changed off the record"
    );
}

#[track_caller]
fn heals(tenant: &Tenant, replica: &str) {
    eventually("it serves again", Duration::from_secs(10), || {
        (ask(tenant, replica, 1).status == "200" && ready(replica)).then_some(())
    });
}
