//! What the user can do about a refusal.

use super::refusal::{Meaning, Refusal};

/// Where in the portal quotas are raised.
/// <https://learn.microsoft.com/en-us/azure/quotas/per-vm-quota-requests>
const QUOTAS: &str = "#view/Microsoft_Azure_Capacity/QuotaMenuBlade/~/myQuotas";

impl Refusal {
    pub(super) fn hint(&self) -> Option<String> {
        if let Some(hint) = self.code.strip_prefix("AADSTS").and_then(sign_in_hint) {
            return Some(hint.to_owned());
        }
        let fixed = match self.code.as_str() {
            "InvalidAuthenticationTokenTenant" => {
                "the subscription belongs to another tenant than AZURE_TENANT_ID"
            }
            "InvalidAuthenticationTokenAudience" => {
                "AZURE_AUTHORITY_HOST and AZURE_RESOURCE_MANAGER_ENDPOINT must be those of one cloud"
            }
            "SubscriptionNotFound" | "InvalidSubscriptionId" => {
                "check AZURE_SUBSCRIPTION_ID, and that the application has a role in it: az account \
                 list --query [].id shows those that one can see"
            }
            "MissingSubscriptionRegistration"
            | "SubscriptionNotRegistered"
            | "InvalidSubscriptionRegistrationState"
            | "NoRegisteredProviderFound" => {
                return Some(format!(
                    "register the namespace once: az provider register --namespace {}; a launch \
                     needs Microsoft.Compute and Microsoft.Network",
                    namespace(&self.message).unwrap_or("Microsoft.Compute")
                ));
            }
            "DisabledSubscription" | "ReadOnlyDisabledSubscription" => {
                "the subscription is disabled: see its billing in the Azure portal, or name another \
                 one with AZURE_SUBSCRIPTION_ID"
            }
            "RequestDisallowedByPolicy" => {
                "a policy of the subscription forbids it: ask who manages that, or use another \
                 subscription"
            }
            "ScopeLocked" => "remove the lock that the subscription or the group has",
            "MarketplacePurchaseEligibilityFailed" | "ResourcePurchaseValidationFailed" => {
                "accept the image's terms once: az vm image terms accept --urn \
                 publisher:offer:sku:version"
            }
            "SpotPriceGreaterThanProvidedMaxPrice" => {
                "raise --cloud-spot-price, leave it out for the current price, or add \
                 --cloud-spot-fallback"
            }
            "AzureSpotFeatureNotEnabledForSubscription" => {
                "this kind of subscription has no spot machines: leave --cloud-spot out"
            }
            // <https://learn.microsoft.com/en-us/azure/role-based-access-control/troubleshooting#limits>
            "RoleAssignmentLimitExceeded" => {
                "the subscription has as many role assignments as it can have: delete those that \
                 nobody needs, beginning with those of identities that are gone"
            }
            // <https://learn.microsoft.com/en-us/azure/azure-resource-manager/management/azure-subscription-service-limits>
            "ResourceGroupQuotaExceeded" => {
                "the subscription has as many resource groups as it can have: `runner-launch \
                 sweep` deletes those that launches have left"
            }
            _ => "",
        };
        if !fixed.is_empty() {
            return Some(fixed.to_owned());
        }
        match self.meaning() {
            Meaning::Credentials => Some(
                "check the Azure credentials: a token that is over, or a clock that is wrong, are \
                 refused alike"
                    .to_owned(),
            ),
            Meaning::Denied if !self.actions.is_empty() => Some(format!(
                "allow {} by a role; one that was given just now takes some minutes to count",
                self.actions.join(", ")
            )),
            Meaning::Capacity => Some(
                "try again later, or give more to choose from: --cloud-type and --cloud-region \
                 take lists, and --cloud-spot-fallback ends on demand"
                    .to_owned(),
            ),
            Meaning::FamilyQuota | Meaning::SpotQuota | Meaning::RegionQuota => {
                let name = self.quota.as_deref().unwrap_or_default();
                Some(format!(
                    "raise the quota {name} at https://{}/{QUOTAS}, or choose another type or \
                     region",
                    self.portal.host()
                ))
            }
            _ => None,
        }
    }
}

/// "The subscription is not registered to use namespace 'Microsoft.Compute'. …"
fn namespace(message: &str) -> Option<&str> {
    message
        .split('\'')
        .find(|quoted| quoted.starts_with("Microsoft."))
}

/// Advice for the numbers of Entra's refusals.
/// <https://learn.microsoft.com/en-us/entra/identity-platform/reference-error-codes>
fn sign_in_hint(number: &str) -> Option<&'static str> {
    Some(match number {
        "7000215" => "AZURE_CLIENT_SECRET must be the secret's value, not its id",
        "7000222" => "the client secret is over: make another one",
        "700016" => {
            "check AZURE_CLIENT_ID and AZURE_TENANT_ID: that tenant has no such application"
        }
        "90002" | "900023" => {
            "check AZURE_TENANT_ID; for a sovereign cloud, set AZURE_AUTHORITY_HOST, too"
        }
        "7000112" => "the application is disabled: enable it in Entra",
        "70021" | "700211" | "700212" | "700213" | "7002138" => {
            "the application's federated credential must have exactly this token's issuer, subject \
             and audience (api://AzureADTokenExchange); upper and lower case count"
        }
        "700024" | "50013" | "50027" => {
            "the token with which we sign in isn't good, or not any more: check where it comes from, \
             and this machine's clock"
        }
        "700027" | "700030" => {
            "the certificate must be one of the application's own: upload it in Entra, and check \
             this machine's clock"
        }
        "500011" | "700022" => {
            "AZURE_AUTHORITY_HOST and AZURE_RESOURCE_MANAGER_ENDPOINT must be those of one cloud"
        }
        "53003" | "530032" => "a Conditional Access policy of the tenant blocks this application",
        _ => return None,
    })
}
