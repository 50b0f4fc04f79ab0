//! Who keeps an object as git has it: Argo CD or Flux, by the marks that they leave. A tool without a mark is not known.

use serde_json::Value;

/// Tool that sets an object back to what git has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct GitOwner {
    /// Tool, and what of it: `Argo CD (application shop)`.
    pub owner: String,
    /// Mark that shows it.
    pub mark: String,
}

/// The owner that the marks on the object name.
pub(super) fn git_owner(object: &Value) -> Option<GitOwner> {
    by_argo_cd(object).or_else(|| by_flux(object)).or_else(|| by_field_manager(object))
}

fn by_argo_cd(object: &Value) -> Option<GitOwner> {
    let (annotation, label) = ("argocd.argoproj.io/tracking-id", "argocd.argoproj.io/instance");
    let tracked = object["metadata"]["annotations"][annotation].as_str();
    // application:group/kind:namespace/name
    let by_annotation = tracked.map(|id| (id.split(':').next().unwrap_or(id), format!("annotation {annotation}")));
    let by_label = || Some((object["metadata"]["labels"][label].as_str()?, format!("label {label}")));
    let (application, mark) = by_annotation.or_else(by_label)?;
    Some(GitOwner { owner: format!("Argo CD (application {application})"), mark })
}

fn by_flux(object: &Value) -> Option<GitOwner> {
    ["kustomize", "helm"].into_iter().find_map(|controller| {
        let label = format!("{controller}.toolkit.fluxcd.io/name");
        let name = object["metadata"]["labels"][&label].as_str()?;
        let kind = if controller == "helm" { "HelmRelease" } else { "Kustomization" };
        Some(GitOwner { owner: format!("Flux ({kind} {name})"), mark: format!("label {label}") })
    })
}

/// Who wrote the version last, where it is a controller of either.
fn by_field_manager(object: &Value) -> Option<GitOwner> {
    let fields = object["metadata"]["managedFields"].as_array()?;
    let writers = fields.iter().filter(|entry| entry["fieldsV1"]["f:spec"]["f:version"].is_object());
    let mut managers = writers.filter_map(|entry| entry["manager"].as_str());
    managers.find_map(|manager| {
        let tool = match manager {
            "kustomize-controller" | "helm-controller" => "Flux",
            manager if manager.starts_with("argocd-") => "Argo CD",
            _ => return None,
        };
        Some(GitOwner { owner: tool.to_owned(), mark: format!("field manager {manager} of spec.version") })
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn owner(metadata: Value) -> String {
        let owner = git_owner(&json!({ "metadata": metadata }));
        owner.map(|GitOwner { owner, mark }| format!("{owner}: {mark}")).unwrap_or_default()
    }

    #[test]
    fn argo_cd_and_flux_are_known_by_each_mark_that_they_leave() {
        let tracked =
            json!({ "annotations": { "argocd.argoproj.io/tracking-id": "shop:landfall.dev/Deployment:shop/web" } });
        assert_eq!(owner(tracked), "Argo CD (application shop): annotation argocd.argoproj.io/tracking-id");
        let labelled = json!({ "labels": { "argocd.argoproj.io/instance": "shop" } });
        assert_eq!(owner(labelled), "Argo CD (application shop): label argocd.argoproj.io/instance");
        let flux = json!({ "labels": { "kustomize.toolkit.fluxcd.io/name": "shop", "kustomize.toolkit.fluxcd.io/namespace": "flux-system" } });
        assert_eq!(owner(flux), "Flux (Kustomization shop): label kustomize.toolkit.fluxcd.io/name");
        let helm = json!({ "labels": { "helm.toolkit.fluxcd.io/name": "shop" } });
        assert_eq!(owner(helm), "Flux (HelmRelease shop): label helm.toolkit.fluxcd.io/name");
    }

    #[test]
    fn whoever_wrote_the_version_counts_and_no_other_field_manager() {
        let written =
            |manager: &str, fields: Value| json!({ "managedFields": [{ "manager": manager, "fieldsV1": fields }] });
        let version = json!({ "f:spec": { "f:version": {} } });
        assert_eq!(
            owner(written("argocd-controller", version.clone())),
            "Argo CD: field manager argocd-controller of spec.version"
        );
        assert_eq!(owner(written("kubectl-client-side-apply", version)), "");
        assert_eq!(owner(written("kustomize-controller", json!({ "f:spec": { "f:env": {} } }))), "");
        assert_eq!(owner(json!({})), "");
    }
}
