//! Azure's clouds: the public one, and the sovereign ones.
//! <https://learn.microsoft.com/en-us/entra/identity-platform/authentication-national-cloud>

use url::Url;

use crate::error::{Error, Result};
use crate::host::Host;

/// Where tokens are made. <https://learn.microsoft.com/en-us/dotnet/api/azure.identity.environmentcredential>
pub(super) const AUTHORITY_VARIABLE: &str = "AZURE_AUTHORITY_HOST";

/// Where Resource Manager is.
pub(super) const ENDPOINT_VARIABLE: &str = "AZURE_RESOURCE_MANAGER_ENDPOINT";

/// A cloud as Microsoft runs it.
struct Known {
    authority: &'static str,
    arm: &'static str,
    /// What a token for Resource Manager is for.
    audience: &'static str,
    portal: Portal,
}

/// Where people look at a cloud.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Portal {
    #[default]
    Public,
    Government,
    China,
}

impl Portal {
    pub(super) fn host(self) -> &'static str {
        match self {
            Portal::Public => "portal.azure.com",
            Portal::Government => "portal.azure.us",
            Portal::China => "portal.azure.cn",
        }
    }
}

/// The public cloud first. The audiences are those of Microsoft's own libraries.
/// <https://learn.microsoft.com/en-us/azure/azure-government/compare-azure-government-global-azure>
/// <https://learn.microsoft.com/en-us/azure/china/resources-developer-guide>
const KNOWN: [Known; 3] = [
    Known {
        authority: "login.microsoftonline.com",
        arm: "management.azure.com",
        audience: "https://management.azure.com",
        portal: Portal::Public,
    },
    Known {
        authority: "login.microsoftonline.us",
        arm: "management.usgovcloudapi.net",
        audience: "https://management.core.usgovcloudapi.net",
        portal: Portal::Government,
    },
    Known {
        authority: "login.chinacloudapi.cn",
        arm: "management.chinacloudapi.cn",
        audience: "https://management.chinacloudapi.cn",
        portal: Portal::China,
    },
];

/// One cloud's addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Endpoints {
    pub(super) authority: Url,
    pub(super) arm: Url,
    pub(super) audience: String,
}

impl Endpoints {
    /// Those of the environment. Of a cloud that is known, one of the two variables is enough.
    pub(super) fn of(host: &Host) -> Result<Self> {
        let authority = address(host, AUTHORITY_VARIABLE)?;
        let arm = address(host, ENDPOINT_VARIABLE)?;
        let known = match (&authority, &arm) {
            (Some(authority), None) => KNOWN
                .iter()
                .find(|known| authority.host_str() == Some(known.authority)),
            (_, Some(arm)) => by_arm(arm),
            (None, None) => None,
        }
        .unwrap_or(&KNOWN[0]);
        let own = |host: &str| {
            Url::parse(&format!("https://{host}/"))
                .map_err(|error| Error::other("reading our own address").caused_by(error))
        };
        let arm = arm.map_or_else(|| own(known.arm), Ok)?;
        Ok(Self {
            authority: authority.map_or_else(|| own(known.authority), Ok)?,
            audience: audience(&arm),
            arm,
        })
    }
}

fn by_arm(arm: &Url) -> Option<&'static Known> {
    KNOWN.iter().find(|known| arm.host_str() == Some(known.arm))
}

/// What a token for this Resource Manager is for: of an unknown one, itself.
pub(super) fn audience(arm: &Url) -> String {
    match by_arm(arm) {
        Some(known) => known.audience.to_owned(),
        None => arm.as_str().trim_end_matches('/').to_owned(),
    }
}

/// Where people look at the cloud of this Resource Manager. One that is unknown is, most likely, another
/// way to the public one's.
pub(super) fn portal(arm: &Url) -> Portal {
    by_arm(arm).unwrap_or(&KNOWN[0]).portal
}

/// A variable's address; Microsoft's tools take a mere host, too.
fn address(host: &Host, variable: &str) -> Result<Option<Url>> {
    let Some(text) = host.env(variable) else {
        return Ok(None);
    };
    let text = text.trim();
    let whole = match text.contains("://") {
        true => text.to_owned(),
        false => format!("https://{text}"),
    };
    let mut url = Url::parse(&whole)
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
        .filter(|url| url.username().is_empty() && url.query().is_none())
        .ok_or_else(|| {
            Error::usage(format!(
                "{variable} is no address such as https://host:port"
            ))
        })?;
    if !url.path().ends_with('/') {
        url.set_path(&format!("{}/", url.path()));
    }
    Ok(Some(url))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(env: &[(&str, &str)]) -> Result<[String; 3]> {
        let Endpoints {
            authority,
            arm,
            audience,
        } = Endpoints::of(&Host::fixed(env.iter().copied()))?;
        Ok([authority.to_string(), arm.to_string(), audience])
    }

    #[test]
    fn one_variable_is_enough_for_a_cloud_that_is_known() {
        let public = [
            "https://login.microsoftonline.com/",
            "https://management.azure.com/",
            "https://management.azure.com",
        ];
        assert_eq!(of(&[]).unwrap(), public);
        let government = [
            "https://login.microsoftonline.us/",
            "https://management.usgovcloudapi.net/",
            "https://management.core.usgovcloudapi.net",
        ];
        for given in [
            [(AUTHORITY_VARIABLE, "login.microsoftonline.us")],
            [(AUTHORITY_VARIABLE, "https://login.microsoftonline.us/")],
            [(ENDPOINT_VARIABLE, "https://management.usgovcloudapi.net")],
        ] {
            assert_eq!(of(&given).unwrap(), government);
        }
        let china = of(&[(AUTHORITY_VARIABLE, "https://login.chinacloudapi.cn")]).unwrap();
        assert_eq!(china[2], "https://management.chinacloudapi.cn");
    }

    #[test]
    fn each_cloud_has_its_portal() {
        for (arm, expected) in [
            ("https://management.azure.com/", "portal.azure.com"),
            ("https://management.usgovcloudapi.net/", "portal.azure.us"),
            ("https://management.chinacloudapi.cn/", "portal.azure.cn"),
            ("http://127.0.0.1:2/", "portal.azure.com"),
        ] {
            assert_eq!(portal(&Url::parse(arm).unwrap()).host(), expected, "{arm}");
        }
    }

    #[test]
    fn another_cloud_s_tokens_are_for_itself() {
        let own = of(&[
            (AUTHORITY_VARIABLE, "http://127.0.0.1:1/adfs"),
            (ENDPOINT_VARIABLE, "http://127.0.0.1:2"),
        ]);
        assert_eq!(
            own.unwrap(),
            [
                "http://127.0.0.1:1/adfs/",
                "http://127.0.0.1:2/",
                "http://127.0.0.1:2"
            ]
        );
        for bad in ["ftp://x", "https://user@x", "https://x?y"] {
            let error = of(&[(ENDPOINT_VARIABLE, bad)]).unwrap_err();
            assert!(error.to_string().contains(ENDPOINT_VARIABLE), "{error}");
        }
    }
}
