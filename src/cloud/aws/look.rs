//! The look: one wave of reads, for all regions side by side. Nothing waits for anything else.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::join_all;
use serde::de::DeserializeOwned;

use super::asked::Asked;
use super::client::{Client, Failure, Query};
use super::images::{self, Image};
use super::network::{self, Group, GroupsAnswer, Subnet, SubnetsAnswer, VpcsAnswer};
use super::refusal::Meaning;
use super::types::{self, OfferingsAnswer, TypeInfo, TypesAnswer};
use super::xml::Set;
use crate::error::Result;

/// What one region answered.
#[derive(Debug, Clone, Default)]
pub(super) struct Facts {
    pub(super) images: Vec<Image>,
    /// `None`: it may not be asked.
    pub(super) types: Option<Vec<TypeInfo>>,
    /// Pairs of type and zone; `None`: it may not be asked.
    pub(super) offerings: Option<BTreeSet<(String, String)>>,
    pub(super) subnets: Vec<Subnet>,
    /// The default VPC.
    pub(super) vpc: Option<String>,
    pub(super) groups: Vec<Group>,
}

/// Asks every region.
pub(super) async fn wave(client: &Client, asked: &Asked) -> BTreeMap<String, Result<Facts>> {
    let regions = asked.regions().into_iter().map(async |region| {
        let facts = look(client, &region, asked).await;
        (region, facts)
    });
    join_all(regions).await.into_iter().collect()
}

async fn look(client: &Client, region: &str, asked: &Asked) -> Result<Facts> {
    let images_query = images::query(asked);
    let types_query = types::types_query(&asked.types);
    let offerings_query = types::offerings_query(&asked.types);
    let subnets_query = network::subnets_query(asked);
    let vpcs_query = network::vpcs_query();
    let groups_query = network::groups_query(&asked.group);
    let vpcs = async {
        match asked.subnet {
            Some(_) => Ok(VpcsAnswer {
                vpcs: Set::default(),
            }),
            None => must(client, region, "looking for the default VPC", &vpcs_query).await,
        }
    };
    let (images, types, offerings, subnets, vpcs, groups): (
        images::Answer,
        Option<TypesAnswer>,
        Option<OfferingsAnswer>,
        SubnetsAnswer,
        VpcsAnswer,
        GroupsAnswer,
    ) = Box::pin(async {
        tokio::try_join!(
            must(client, region, "looking for the image", &images_query),
            may(client, region, "looking at the instance type", &types_query),
            may(
                client,
                region,
                "looking where the instance type is offered",
                &offerings_query
            ),
            must(client, region, "looking for the subnet", &subnets_query),
            vpcs,
            must(
                client,
                region,
                "looking for the security group",
                &groups_query
            ),
        )
    })
    .await?;
    Ok(Facts {
        images: images.images(),
        types: types.map(TypesAnswer::types),
        offerings: offerings.map(OfferingsAnswer::offerings),
        subnets: subnets.subnets.items,
        vpc: vpcs.vpcs.items.into_iter().next().map(|vpc| vpc.id),
        groups: groups.groups.items,
    })
}

async fn must<T: DeserializeOwned>(
    client: &Client,
    region: &str,
    doing: &str,
    query: &Query,
) -> Result<T> {
    match client.call(region, query).await {
        Ok(answer) => Ok(answer),
        Err(failure) => Err(client
            .error(region, format!("{doing} in {region}"), failure)
            .await),
    }
}

/// A read that the launch can do without.
async fn may<T: DeserializeOwned>(
    client: &Client,
    region: &str,
    doing: &str,
    query: &Query,
) -> Result<Option<T>> {
    match client.call(region, query).await {
        Ok(answer) => Ok(Some(answer)),
        Err(failure) if is_tolerated(&failure) => Ok(None),
        Err(failure) => Err(client
            .error(region, format!("{doing} in {region}"), failure)
            .await),
    }
}

/// A permission that isn't in the specification's list may be missing, and a private cloud may
/// not know the action at all.
fn is_tolerated(failure: &Failure) -> bool {
    match failure {
        Failure::Refused(refusal) => {
            refusal.meaning() == Meaning::Permission
                || matches!(
                    refusal.code.as_str(),
                    "InvalidAction" | "UnsupportedOperation"
                )
        }
        Failure::Broken(_) => false,
    }
}
