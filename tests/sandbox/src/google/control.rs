//! What a test does with Google's identities, by the handle to Compute Engine.

use std::sync::atomic::Ordering;

use super::files::SubjectTokenSource;
use super::{LAUNCHER, PROJECT, RUNNER};
use crate::gce::Gce;

impl Gce {
    /// The project's id.
    pub fn project(&self) -> String {
        PROJECT.into()
    }

    /// The address of the service account that launchers are.
    pub fn launcher_account(&self) -> String {
        LAUNCHER.into()
    }

    /// The address of another one, which launchers may attach to instances; it may delete them.
    pub fn runner_account(&self) -> String {
        RUNNER.into()
    }

    /// The key of the launcher's account, as the environment gives it.
    pub fn service_account_key(&self) -> String {
        self.identity.service_account_key()
    }

    /// A ready access token of the launcher's account.
    pub fn access_token(&self) -> String {
        self.identity.access_token()
    }

    /// Ends every access token that is out.
    pub fn expire_tokens(&self) {
        self.identity.expire_tokens();
    }

    /// The credentials of a person who is signed in.
    pub fn authorized_user(&self) -> String {
        self.identity.authorized_user()
    }

    /// The credentials of such a person who acts as the launcher's account.
    pub fn impersonated_service_account(&self) -> String {
        self.identity.impersonated_service_account()
    }

    /// The configuration of a pipeline whose own token is exchanged for Google's, and the variables
    /// that go with it. The token comes from a `file` (with text), a `json-file`, or GitHub's
    /// `url`. `impersonate`: the pipeline then acts as the launcher's account.
    pub fn external_account(
        &self,
        source: &str,
        impersonate: bool,
    ) -> (String, Vec<(String, String)>) {
        self.identity
            .external_account(SubjectTokenSource::of(source), impersonate)
    }

    /// Makes the host an instance with the launcher's account, as its metadata server tells it.
    /// Without it that server answers 404, and not as Google's.
    pub fn enable_host_metadata(&self) {
        self.identity.host_is_instance.store(true, Ordering::SeqCst);
    }

    /// Lets launchers do this (`compute.instances.insert`, `compute.zones.*`) and nothing else.
    pub fn allow_only(&self, permissions: &[&str]) {
        self.identity.allow_only(permissions);
    }

    /// Lets launchers do this, too.
    pub fn allow(&self, permission: &str) {
        self.identity.allow(permission);
    }

    /// Lets launchers do this no more.
    pub fn deny(&self, permission: &str) {
        self.identity.deny(permission);
    }

    /// Lets nobody attach a service account to an instance.
    pub fn refuse_act_as(&self) {
        self.identity.refuse_act_as();
    }

    /// Whether Google's APIs refuse tokens that their bearers signed themselves; at first they
    /// don't.
    pub fn refuse_self_signed(&self, refuse: bool) {
        self.identity.refuse_self_signed(refuse);
    }
}
