"""Which ReplicaSet is which revision."""

from canary.sandbox.workloads import revisions
from canary.sandbox.workloads.ownership import controller_of, owned_by


def deployment(image="payment:v1", **spec):
    template = {
        "metadata": {"labels": {"app": "payment", "version": "v1"}},
        "spec": {"containers": [{"name": "app", "image": image}]},
    }
    metadata = {
        "name": "payment",
        "namespace": "shop",
        "uid": "d-1",
        "annotations": {
            "kubernetes.io/change-cause": "faster",
            "kubectl.kubernetes.io/last-applied-configuration": "{}",
            revisions.REVISION: "7",
        },
    }
    return {
        "metadata": metadata,
        "spec": {"selector": {"matchLabels": {"app": "payment"}}, "template": template, **spec},
    }


def stored(replicaset, name=None, replicas=None, created="2026-01-01T00:00:00Z"):
    metadata = replicaset["metadata"] | {"creationTimestamp": created, "generation": 1}
    spec = replicaset["spec"] | ({} if replicas is None else {"replicas": replicas})
    status = {"observedGeneration": 1, "replicas": spec["replicas"]}
    return replicaset | {"metadata": metadata | ({"name": name} if name else {}), "spec": spec, "status": status}


def test_a_revision_is_its_template_whatever_the_order_of_keys():
    template = deployment()["spec"]["template"]
    turned = {key: template[key] for key in reversed(template)}

    assert revisions.template_hash(template) == revisions.template_hash(turned)
    assert revisions.template_hash(template) != revisions.template_hash(deployment("payment:v2")["spec"]["template"])


def test_a_replicaset_carries_the_hash_on_itself_its_selector_and_its_pods():
    replicaset = revisions.replicaset_for(deployment(), revision=3, replicas=2)
    digest = replicaset["metadata"]["labels"][revisions.HASH_LABEL]

    assert replicaset["metadata"]["name"] == f"payment-{digest}"
    assert replicaset["spec"]["selector"]["matchLabels"] == {"app": "payment", revisions.HASH_LABEL: digest}
    assert replicaset["spec"]["template"]["metadata"]["labels"][revisions.HASH_LABEL] == digest
    assert controller_of(replicaset, revisions.DEPLOYMENT) == ("payment", "d-1")


def test_annotations_go_along_but_neither_kubectls_copy_nor_an_old_number():
    annotations = revisions.replicaset_for(deployment(), revision=3, replicas=2)["metadata"]["annotations"]

    assert annotations == {"kubernetes.io/change-cause": "faster", revisions.REVISION: "3"}


def test_a_template_that_comes_back_finds_its_old_replicaset():
    first = stored(revisions.replicaset_for(deployment("v1"), 1, 0))
    second = stored(revisions.replicaset_for(deployment("v2"), 2, 3))

    assert revisions.current(deployment("v1"), [first, second]) is first
    assert revisions.next_revision([second]) == 3
    assert revisions.current(deployment("v3"), [first, second]) is None


def test_owned_are_those_of_this_very_deployment_oldest_first():
    mine = stored(revisions.replicaset_for(deployment("v1"), 1, 1), created="2026-01-02T00:00:00Z")
    older = stored(revisions.replicaset_for(deployment("v0"), 1, 1), created="2026-01-01T00:00:00Z")
    namesake = deployment("v1")
    namesake["metadata"] = namesake["metadata"] | {"uid": "d-2"}
    stranger = stored(revisions.replicaset_for(namesake, 1, 1))

    assert owned_by(deployment(), revisions.DEPLOYMENT, [mine, stranger, older]) == [older, mine]


def test_history_keeps_the_newest_and_whatever_has_pods():
    old = [stored(revisions.replicaset_for(deployment(f"v{n}"), n, 0), name=f"rs-{n}") for n in range(1, 6)]
    old[0] = stored(old[0], replicas=1)

    gone = revisions.expired(deployment(revisionHistoryLimit=2), old)

    assert [rs["metadata"]["name"] for rs in gone] == ["rs-2", "rs-3", "rs-4"]
    assert revisions.expired(deployment(), old) == []
