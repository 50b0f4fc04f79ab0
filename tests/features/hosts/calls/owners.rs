//! Whose a host is: tokens, adoption, Deployments.

use super::*;

#[tokio::test]
async fn a_lower_token_is_refused_and_another_control_plane_must_adopt() {
    let mut bench = Bench::new().await;
    let v1 = bench.release("v1", &[("app", SLEEPER)]);
    bench.stage(&v1).await;

    let slept = ActCall { fence: token("plane-1", 4), ..bench.call.clone() };
    assert_eq!(bench.host.switch(&bench.gate, &slept, &v1.release).await, Err(HostError::Fenced));

    let foreign = Owner { control_plane_id: "plane-2".to_owned(), ..bench.call.owner.clone() };
    let mut other = ActCall { fence: token("plane-2", 0), owner: foreign, ..bench.call.clone() };
    assert_eq!(
        bench.host.switch(&bench.gate, &other, &v1.release).await,
        Err(HostError::FencedByOtherControlPlane { epoch: "plane-1".to_owned() })
    );
    assert_eq!(bench.folder().await.fence, Some(token("plane-1", 5)));

    other.replaces = Some(bench.call.owner.clone());
    other.act.n = bench.host.adopt(&bench.gate, &other).await.unwrap().journal;
    bench.host.switch(&bench.gate, &other, &v1.release).await.unwrap();
    assert_eq!(
        bench.host.switch(&bench.gate, &bench.call, &v1.release).await,
        Err(HostError::FencedByOtherControlPlane { epoch: "plane-2".to_owned() })
    );
}

#[tokio::test]
async fn a_host_belongs_to_one_deployment_until_that_is_gone() {
    let mut bench = Bench::new().await;
    let v1 = bench.release("v1", &[("app", SLEEPER)]);
    bench.stage(&v1).await;
    for second in [owner("web-second", "web-01"), owner("web-production", "web-01-again")] {
        let call = ActCall { owner: second, ..bench.call.clone() };
        let refused = bench.host.switch(&bench.gate, &call, &v1.release).await;
        assert_eq!(refused, Err(HostError::HostClaimed { by: Box::new(bench.call.owner.clone()) }));
    }
    let heir = owner("web-second", "web-01");
    let call = ActCall { owner: heir.clone(), replaces: Some(bench.call.owner.clone()), ..bench.call.clone() };
    bench.host.switch(&bench.gate, &call, &v1.release).await.unwrap();
    assert_eq!(bench.folder().await.owner, Some(heir));
}
