//! What a test does with Entra ID, by the handle to Azure.

use std::io;
use std::path::PathBuf;

use super::{FederatedToken, LAUNCHER, SUBSCRIPTION, TENANT};
use crate::azure::Azure;

impl Azure {
    /// The variables with which launchers find everything, and sign in with a secret.
    pub(crate) fn env(&self) -> Vec<(String, String)> {
        let mut env = self.entra().env();
        env.push(("AZURE_RESOURCE_MANAGER_ENDPOINT".into(), self.url()));
        env
    }

    /// The subscription's id.
    pub fn subscription(&self) -> String {
        SUBSCRIPTION.into()
    }

    /// The tenant's id.
    pub fn tenant(&self) -> String {
        TENANT.into()
    }

    /// The client id of the application that launchers are.
    pub fn client_id(&self) -> String {
        LAUNCHER.into()
    }

    /// The application's secret, as the environment gives it.
    pub fn client_secret(&self) -> String {
        self.entra().directory().client_secret.clone()
    }

    /// One that has expired.
    pub fn expired_client_secret(&self) -> String {
        self.entra().directory().expired_secret.clone()
    }

    /// A token of GitHub's or GitLab's that gets one of Entra's, or should.
    pub fn federated_token(&self, token: FederatedToken) -> String {
        self.entra().federated_token(token)
    }

    /// A file with such a token, for `AZURE_FEDERATED_TOKEN_FILE`.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn federated_token_file(&self, token: FederatedToken) -> io::Result<PathBuf> {
        self.entra().federated_token_file(token)
    }

    /// The variables with which a GitHub workflow asks for such a token.
    pub fn github_oidc(&self) -> Vec<(String, String)> {
        self.entra().issuer.env().into()
    }

    /// A file with the application's certificate and its key, for `AZURE_CLIENT_CERTIFICATE_PATH`.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn certificate(&self) -> io::Result<PathBuf> {
        self.entra().certificate()
    }

    /// Makes the host a machine with an identity of its own and one that was assigned to it, which
    /// may both do what launchers may. The answer is the client id of the latter; it is chosen by
    /// `AZURE_CLIENT_ID`, the former by there being no such variable. Without this the host's
    /// metadata service answers 404.
    pub fn enable_host_identity(&self) -> String {
        self.entra().host.enable()
    }

    /// The variables by which a program in App Service finds the host's identities, which are to be
    /// enabled first.
    pub fn app_service(&self) -> Vec<(String, String)> {
        self.entra().host.app_service()
    }

    /// Ends every access token that is out.
    pub fn expire_tokens(&self) {
        self.entra().directory().expire_tokens();
    }

    /// Lets launchers do this (`Microsoft.Compute/virtualMachines/write`, `Microsoft.Network/*`) and
    /// nothing else.
    pub fn allow_only(&self, actions: &[&str]) {
        self.entra().directory().rights.allow_only(actions);
    }

    /// Lets launchers do this no more.
    pub fn deny(&self, action: &str) {
        self.entra().directory().rights.deny(action);
    }
}
