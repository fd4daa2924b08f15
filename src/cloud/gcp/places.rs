//! Regions and zones.

const REGIONS: &[(&str, &str)] = &[
    ("us-east", "us-east1-c"),
    ("us-west", "us-west1-b"),
    ("eu-north", "europe-north1-a"),
    ("eu-west", "europe-west1-d"),
];

/// Where an instance may run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// The native region.
    pub(super) region: String,
    /// The zone to try first.
    pub(super) zone: Option<String>,
    /// Whether that zone is the only one allowed.
    pub(super) only: bool,
}

impl Place {
    /// Reads an alias, a region, or a zone.
    /// <https://docs.cloud.google.com/compute/docs/regions-zones>
    pub(super) fn read(text: &str) -> Result<Self, String> {
        let known = REGIONS.iter().find(|(alias, _)| *alias == text);
        let (text, only) = known.map_or((text, true), |(_, zone)| (*zone, false));
        // A region's name ends with its number; what follows names a zone in it.
        let is_region = |text: &str| {
            let words: Vec<&str> = text.split('-').collect();
            let last = words.last().copied().unwrap_or_default();
            let stem = last.trim_end_matches(|c: char| c.is_ascii_digit());
            let word =
                |word: &&str| !word.is_empty() && word.chars().all(|c| c.is_ascii_lowercase());
            words.len() >= 2
                && stem.len() < last.len()
                && word(&stem)
                && words[..words.len() - 1].iter().all(word)
        };
        if is_region(text) {
            return Ok(Self {
                region: text.to_owned(),
                zone: None,
                only: false,
            });
        }
        match text.rsplit_once('-') {
            Some((region, zone)) if is_region(region) && is_zone(zone) => Ok(Self {
                region: region.to_owned(),
                zone: Some(text.to_owned()),
                only,
            }),
            _ => {
                let aliases: Vec<&str> = REGIONS.iter().map(|(alias, _)| *alias).collect();
                Err(format!(
                    "--cloud-region: `{text}` is neither one of {} nor a region such as \
                     europe-west4 nor a zone such as europe-west4-a",
                    aliases.join(", ")
                ))
            }
        }
    }
}

/// Most are letters; zones for AI hardware are `ai1a`.
fn is_zone(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.ends_with(|c: char| c.is_ascii_lowercase())
        && text
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
}

/// The region of a zone, or of a region.
pub(super) fn region_of(place: &str) -> &str {
    match Place::read(place) {
        Ok(Place { zone: Some(_), .. }) => {
            place.rsplit_once('-').map_or(place, |(region, _)| region)
        }
        _ => place,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_zones_and_aliases_are_told_apart() {
        let cases = [
            ("us-west", "us-west1", Some("us-west1-b"), false),
            ("us-east", "us-east1", Some("us-east1-c"), false),
            ("eu-north", "europe-north1", Some("europe-north1-a"), false),
            ("eu-west", "europe-west1", Some("europe-west1-d"), false),
            ("us-west1", "us-west1", None, false),
            ("us-west1-b", "us-west1", Some("us-west1-b"), true),
            (
                "northamerica-northeast1",
                "northamerica-northeast1",
                None,
                false,
            ),
            (
                "europe-west12-a",
                "europe-west12",
                Some("europe-west12-a"),
                true,
            ),
            (
                "us-central1-ai1a",
                "us-central1",
                Some("us-central1-ai1a"),
                true,
            ),
        ];
        for (text, region, zone, only) in cases {
            let expected = Place {
                region: region.into(),
                zone: zone.map(str::to_owned),
                only,
            };
            assert_eq!(Place::read(text).unwrap(), expected, "{text}");
        }
        for text in [
            "",
            "here",
            "us",
            "us1",
            "us-1",
            "us-west-1",
            "us-west1-",
            "us-west1-B",
            "us-west1-1",
            "-west1",
        ] {
            let complaint = Place::read(text).unwrap_err();
            assert!(
                complaint.starts_with("--cloud-region: "),
                "{text}: {complaint}"
            );
        }
    }

    #[test]
    fn a_zone_tells_its_region() {
        assert_eq!(region_of("us-west1-b"), "us-west1");
        assert_eq!(region_of("us-west1"), "us-west1");
    }
}
