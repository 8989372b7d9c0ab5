//! Back to the chart and the image before this one.

use std::env::var;

use crate::e2e::harness::{RELEASE, kubectl, tenant};
use crate::e2e::one_by_one::{all_ready, helm, revision, roll_back};

fn back_to(revision: &str) {
    roll_back(revision).ok();
    all_ready();
}

/// Goes back to what was installed, whatever happened.
struct Installed(String);

impl Drop for Installed {
    fn drop(&mut self) {
        roll_back(&self.0);
    }
}

#[test]
#[ignore = "needs a cluster"]
fn after_a_downgrade_to_the_previous_chart_all_that_was_written_is_read_and_written_on() {
    all_ready();
    let (Ok(image), Ok(chart)) = (var("STRONGROOM_PREVIOUS_IMAGE"), var("STRONGROOM_PREVIOUS_CHART")) else {
        println!(
            "SKIPPED: there is no tag before this tree; `make e2e TEST=downgrade STRONGROOM_PREVIOUS=<commit>` names what to go back to"
        );
        return;
    };
    let (repository, tag) = image.rsplit_once(':').unwrap();
    let (repository, tag) = (
        format!("image.repository={repository}"),
        format!("image.tag={tag}"),
    );
    let newer = Installed(revision());
    let tenant = tenant("after_a_downgrade");
    let previous = [
        "upgrade",
        "strongroom",
        &chart,
        "--reset-values",
        "--wait",
        "--timeout",
        "5m",
        "--set",
        &repository,
        "--set",
        &tag,
    ];
    helm(&previous, None).ok();
    all_ready();
    let older = revision();
    tenant.vault(&["all"]);
    tenant.pod("client", "app", None);
    tenant
        .python(
            "client",
            "for n in ('old', 'changed', 'back'): client.set_secret(n, 'older')",
        )
        .ok();

    back_to(&newer.0);
    let written = "client.set_secret('changed', 'newer')\nclient.set_secret('large', 'L' * 20000)\n\
                   client.begin_delete_secret('back').wait()\nclient.begin_recover_deleted_secret('back').wait()\n\
                   client.set_secret('new', 'newer', tags={'a': 'b'})\n\
                   for i in range(60): client.set_secret('many', str(i))";
    tenant.python("client", written).ok();

    back_to(&older);
    let running = kubectl(
        &[
            "-n",
            RELEASE,
            "get",
            "pods",
            "-o",
            "jsonpath={.items[*].spec.containers[*].image}",
        ],
        None,
    );
    assert!(running.ok().split_whitespace().all(|it| it == image));
    tenant.pod("mounted", "app", Some("- secret: new"));
    let read = "expected = {'old': 'older', 'changed': 'newer', 'back': 'older', 'new': 'newer', 'large': 'L' * 20000, 'many': '59'}\n\
                assert {n: client.get_secret(n).value for n in expected} == expected\n\
                assert len(list(client.list_properties_of_secret_versions('many'))) == 60\n\
                assert len(list(client.list_properties_of_secret_versions('changed'))) == 2\n\
                assert client.get_secret('new').properties.tags == {'a': 'b'}\n\
                for n in expected: client.set_secret(n, 'on')\nprint('read')";
    println!("{}", tenant.python("client", read).ok().trim());
    let on = "assert {client.get_secret(n).value for n in ('old', 'changed', 'back', 'new', 'large', 'many')} == {'on'}";
    tenant.python("client", on).ok();
    back_to(&newer.0);
    tenant.python("client", on).ok();
}
