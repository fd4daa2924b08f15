//! What the user's template adds to the pod.
//!
//! Mappings are merged, and the user's values win. Lists of things with names (containers, volumes,
//! variables, …) are merged by name, as `kubectl patch` does it; of other lists the user's is taken.
//! Whether all of it is a pod's, the cluster says, which may know more than we do.
//! <https://kubernetes.io/docs/tasks/manage-kubernetes-objects/update-api-object-kubectl-patch/#notes-on-the-strategic-merge-patch>

use serde_json::{Map, Value};

use super::body::{CONTAINER, MOUNT, SECRET_VOLUME, WORK, WORK_VOLUME};
use super::labels;

/// A template, read and checked.
#[derive(Clone, Default, PartialEq)]
pub(super) struct Template(Map<String, Value>);

impl std::fmt::Debug for Template {
    /// Its variables may be secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Template")
    }
}

/// What a list's items are told apart by.
const KEYS: [(&str, &str); 8] = [
    ("containers", "name"),
    ("initContainers", "name"),
    ("volumes", "name"),
    ("env", "name"),
    ("imagePullSecrets", "name"),
    ("volumeMounts", "mountPath"),
    ("ports", "containerPort"),
    ("hostAliases", "ip"),
];

impl Template {
    /// Reads a template: a Pod, or its `metadata` and `spec` alone, in YAML or JSON.
    pub(super) fn read(text: &str) -> Result<Self, Vec<String>> {
        let option = "--cloud-kubernetes-pod-template";
        // The parser's message shows the text around the mistake, which may hold secrets.
        let value: Value = serde_saphyr::from_str(text).map_err(|error| {
            vec![match error.location() {
                Some(place) => format!(
                    "{option}: it is no YAML: line {}, column {}",
                    place.line(),
                    place.column()
                ),
                None => format!("{option}: it is no YAML"),
            }]
        })?;
        let Value::Object(mut template) = value else {
            return Err(vec![format!(
                "{option}: it isn't a Pod, nor a mapping with its `metadata` and `spec`"
            )]);
        };
        if let Some(kind) = template.remove("kind")
            && kind != "Pod"
        {
            return Err(vec![format!("{option}: it is a {kind}, not a Pod")]);
        }
        template.remove("apiVersion");
        let mut mistakes = Vec::new();
        for part in template.keys() {
            if !["metadata", "spec"].contains(&part.as_str()) {
                mistakes.push(format!("{option}: a pod has no field `{part}`"));
            }
        }
        for problem in forbidden(&template) {
            mistakes.push(format!("{option}: {problem}"));
        }
        match mistakes.is_empty() {
            true => Ok(Self(template)),
            false => Err(mistakes),
        }
    }

    /// Adds what the template has to the pod.
    pub(super) fn add_to(&self, pod: &mut Value) {
        merge(pod, &Value::Object(self.0.clone()));
    }

    /// A label that the template wants of the node.
    pub(super) fn node_label(&self, key: &str) -> Option<&str> {
        let spec = self.0.get("spec")?;
        spec.get("nodeSelector")?.get(key)?.as_str()
    }

    /// Whether the runner's container is somebody's who can't read the registration: nobody's but
    /// root's, unless the pod has a group for its volumes.
    pub(super) fn is_locked_out(&self) -> bool {
        let spec = self.0.get("spec").unwrap_or(&Value::Null);
        let user = |context: &Value| context.get("runAsUser").and_then(Value::as_u64);
        let pods = spec.get("securityContext").unwrap_or(&Value::Null);
        let containers = spec.get("containers").and_then(Value::as_array);
        let runner = containers.into_iter().flatten().find_map(|container| {
            let is_ours = container.get("name").and_then(Value::as_str) == Some(CONTAINER);
            user(container.get("securityContext").filter(|_| is_ours)?)
        });
        runner.is_some_and(|user| user != 0) && pods.get("fsGroup").is_none()
    }

    /// The service account that the template wants.
    pub(super) fn service_account(&self) -> Option<&str> {
        self.0.get("spec")?.get("serviceAccountName")?.as_str()
    }
}

/// What a template may not say, for the runner couldn't live then.
fn forbidden(template: &Map<String, Value>) -> Vec<String> {
    let mut problems = Vec::new();
    let spec = template.get("spec").unwrap_or(&Value::Null);
    if spec.get("serviceAccount").is_some() {
        problems.push("its serviceAccount is an old name: say serviceAccountName".to_owned());
    }
    let labels = template
        .get("metadata")
        .and_then(|metadata| metadata.get("labels"));
    let annotations = template
        .get("metadata")
        .and_then(|metadata| metadata.get("annotations"));
    for keys in [labels, annotations]
        .into_iter()
        .flatten()
        .filter_map(Value::as_object)
    {
        let ours = keys.keys().filter(|key| labels::is_ours(key));
        problems.extend(ours.map(|key| format!("the key `{key}` is this program's own")));
    }
    if spec
        .get("restartPolicy")
        .is_some_and(|policy| policy != "Never")
    {
        problems.push("its restartPolicy can only be Never".to_owned());
    }
    let all = |value: &Value, list: &str| -> Vec<Value> {
        let items = value.get(list).and_then(Value::as_array);
        items.cloned().unwrap_or_default()
    };
    for volume in all(spec, "volumes") {
        let name = volume
            .get("name")
            .and_then(Value::as_str)
            .unwrap_or_default();
        if [SECRET_VOLUME, WORK_VOLUME].contains(&name) {
            problems.push(format!("the volume `{name}` is this program's own"));
        }
    }
    for container in all(spec, "containers") {
        let name = container
            .get("name")
            .and_then(Value::as_str)
            .unwrap_or_default();
        if name != CONTAINER {
            problems.push(format!(
                "the container `{name}` would outlive the runner, and the Job with it: put it under \
                 initContainers with restartPolicy: Always"
            ));
            continue;
        }
        for field in ["command", "args"] {
            if container.get(field).is_some() {
                problems.push(format!(
                    "the container `{CONTAINER}` runs this program: its `{field}` can't be chosen"
                ));
            }
        }
        if container.get("image").is_some() {
            problems.push(format!(
                "the image of the container `{CONTAINER}` is that of --cloud-image"
            ));
        }
        for mount in all(&container, "volumeMounts") {
            let path = mount
                .get("mountPath")
                .and_then(Value::as_str)
                .unwrap_or_default();
            if [MOUNT, WORK].contains(&path.trim_end_matches('/')) {
                problems.push(format!("{path} of the container `{CONTAINER}` is taken"));
            }
        }
    }
    problems
}

fn merge(base: &mut Value, added: &Value) {
    merge_at("", base, added);
}

fn merge_at(name: &str, base: &mut Value, added: &Value) {
    match (base, added) {
        (Value::Object(base), Value::Object(added)) => {
            for (name, value) in added {
                match base.get_mut(name) {
                    Some(known) => merge_at(name, known, value),
                    None => {
                        base.insert(name.clone(), value.clone());
                    }
                }
            }
        }
        (Value::Array(base), Value::Array(added)) if key(name).is_some() => {
            let key = key(name).unwrap_or_default();
            for item in added {
                let same = |known: &&mut Value| {
                    known.get(key).is_some() && known.get(key) == item.get(key)
                };
                match base.iter_mut().find(same) {
                    Some(known) => merge_at("", known, item),
                    None => base.push(item.clone()),
                }
            }
        }
        (base, added) => *base = added.clone(),
    }
}

fn key(list: &str) -> Option<&'static str> {
    KEYS.iter()
        .find(|(name, _)| *name == list)
        .map(|(_, key)| *key)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod() -> Value {
        json!({
            "metadata": { "labels": { "a": "b" } },
            "spec": {
                "containers": [{
                    "name": CONTAINER,
                    "image": "i",
                    "securityContext": { "runAsUser": 0, "capabilities": { "drop": ["ALL"], "add": ["KILL"] } },
                    "volumeMounts": [{ "name": SECRET_VOLUME, "mountPath": MOUNT }],
                }],
                "nodeSelector": { "x": "y" },
                "volumes": [{ "name": SECRET_VOLUME }],
            },
        })
    }

    #[test]
    fn what_the_user_adds_is_merged_by_name() {
        let template = Template::read(
            "
            apiVersion: v1
            kind: Pod
            metadata: {labels: {team: ml}}
            spec:
              nodeSelector: {pool: gpu}
              tolerations: [{key: gpu, operator: Exists}]
              securityContext: {fsGroup: 1001}
              volumes: [{name: cache, emptyDir: {}}]
              containers:
                - name: runner
                  securityContext: {runAsUser: 1001, capabilities: {add: []}}
                  volumeMounts: [{name: cache, mountPath: /cache}]
              initContainers:
                - {name: dind, image: docker:dind, restartPolicy: Always}
            ",
        )
        .unwrap();
        let mut merged = pod();
        template.add_to(&mut merged);
        let spec = &merged["spec"];
        assert_eq!(
            merged["metadata"]["labels"],
            json!({ "a": "b", "team": "ml" })
        );
        assert_eq!(spec["nodeSelector"], json!({ "x": "y", "pool": "gpu" }));
        assert_eq!(spec["tolerations"][0]["operator"], "Exists");
        assert_eq!(spec["securityContext"]["fsGroup"], 1001);
        assert_eq!(spec["volumes"].as_array().unwrap().len(), 2);
        assert_eq!(spec["containers"].as_array().unwrap().len(), 1);
        assert_eq!(spec["initContainers"][0]["restartPolicy"], "Always");
        let runner = &spec["containers"][0];
        assert_eq!(runner["image"], "i");
        assert_eq!(runner["securityContext"]["runAsUser"], 1001);
        assert_eq!(
            runner["securityContext"]["capabilities"]["drop"],
            json!(["ALL"])
        );
        assert_eq!(runner["securityContext"]["capabilities"]["add"], json!([]));
        assert_eq!(runner["volumeMounts"].as_array().unwrap().len(), 2);
    }

    #[test]
    fn what_would_break_the_runner_is_refused_at_once() {
        let mistakes = Template::read(
            "
            metadata: {labels: {runner-launch-id: i}}
            specs: {}
            spec:
              serviceAccount: s
              restartPolicy: Always
              tolerationz: []
              nodeName: n
              affinities: {nodeAffinity: {}}
              volumes: [{name: runner-launch, emptyDir: {}}]
              containers:
                - {name: other, image: i}
                - name: runner
                  image: mine
                  command: [sh]
                  env: [{name: A, values: b}]
                  volumeMounts: [{name: x, mountPath: /var/lib/runner-launch/}]
            ",
        );
        let mistakes = mistakes.unwrap_err().join("\n");
        for expected in [
            "a pod has no field `specs`",
            "its restartPolicy",
            "the volume `runner-launch`",
            "its `command`",
            "the image of the container",
            "the container `other`",
            "the key `runner-launch-id`",
            "its serviceAccount",
            "/var/lib/runner-launch/ of the container",
        ] {
            assert!(mistakes.contains(expected), "{expected}: {mistakes}");
        }
    }

    #[test]
    fn nonsense_isn_t_shown() {
        for text in ["- a", "spec: [s3cret", "s3cret", "kind: Job\nspec: {}"] {
            let said = Template::read(text).unwrap_err().join("\n");
            assert!(
                said.starts_with("--cloud-kubernetes-pod-template: it is"),
                "{said}"
            );
            assert!(!said.contains("s3cret"), "{said}");
        }
    }
}
