//! A deleted vault is purged by order, and its name begins anew.

use std::time::Duration;

use crate::e2e::harness::{RELEASE, eventually, kubectl, tenant};
use crate::e2e::one_by_one::all_ready;
use crate::e2e::side_by_side::lifecycle::{apply_again, deleted_vault, is_gone, name, order_to_purge};
use crate::e2e::slow::control_plane::Bound;

fn records() -> usize {
    let said = kubectl(&["-n", RELEASE, "get", "sealedrecords", "-o", "name"], None).ok();
    said.lines().count()
}

#[test]
#[ignore = "needs a cluster"]
fn a_vault_whose_purge_is_ordered_leaves_nothing_and_its_name_begins_anew() {
    // An order waits for as long.
    let _bound = Bound::of("20s");
    all_ready();
    let tenant = tenant("a_vault_whose_purge_is_ordered_leaves_nothing");
    let before = records();
    tenant.vault(&["all"]);
    tenant.pod("client", "app", None);
    let set = "for n in range(20):\n    client.set_secret(f's-{n}', 'x' * 9000)\nprint('set')";
    tenant.python("client", set).ok();
    assert!(records() > before + 40, "heads, and values of their own");
    tenant.kubectl(&["delete", "vaults.strongroom.dev", "demo"]).ok();
    let deleted = name(&deleted_vault(&tenant));
    kubectl(&order_to_purge(&deleted), None).ok();
    is_gone(&deleted);
    eventually("nothing is left but a receipt", Duration::from_secs(60), || {
        (records() <= before + 1).then_some(())
    });
    apply_again(&tenant, "{}");
    let empty = "assert list(client.list_properties_of_secrets()) == []\nassert list(client.list_deleted_secrets()) == []\n\
                 client.set_secret('s-0', 'anew')\nassert client.get_secret('s-0').value == 'anew'\nprint('anew')";
    eventually("it begins anew", Duration::from_secs(40), || {
        let said = tenant.python("client", empty);
        said.stdout.trim_end().ends_with("anew").then_some(())
    });
}
