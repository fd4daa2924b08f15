//! Keys from the environment.

use super::{Context, Found, Keys, denied};
use crate::cache::Expiring;
use crate::secret::Secret;

const ID: &str = "AWS_ACCESS_KEY_ID";
const SECRET: &str = "AWS_SECRET_ACCESS_KEY";
const TOKEN: &str = "AWS_SESSION_TOKEN";

pub(super) fn keys(context: Context<'_>) -> Found {
    // Line breaks at the end come with values pasted into a CI's settings.
    let value = |name| {
        context
            .host
            .env(name)
            .map(str::trim)
            .filter(|value| !value.is_empty())
    };
    match (value(ID), value(SECRET)) {
        (None, None) => Ok(None),
        (Some(_), None) => Err(denied(format!("{ID} is set, but {SECRET} is not"))),
        (None, Some(_)) => Err(denied(format!("{SECRET} is set, but {ID} is not"))),
        (Some(id), Some(secret)) => Ok(Some(Expiring {
            value: Keys {
                id: id.to_owned(),
                secret: Secret::new(secret),
                token: value(TOKEN).map(Secret::new),
            },
            expires: None,
        })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Host;
    use crate::http::Http;

    fn with(env: &[(&str, &str)]) -> Found {
        let host = Host::fixed(env.iter().copied());
        let http = Http::new(&host).unwrap();
        keys(Context {
            host: &host,
            http: &http,
            region: "us-west-1",
        })
    }

    #[test]
    fn half_a_key_is_broken_and_none_is_none() {
        assert!(with(&[]).unwrap().is_none());
        assert!(
            with(&[(ID, "a"), (SECRET, "")])
                .unwrap_err()
                .to_string()
                .contains(SECRET)
        );
        assert!(with(&[(SECRET, "b")]).unwrap_err().to_string().contains(ID));
        let keys = with(&[(ID, "a\n"), (SECRET, "b"), (TOKEN, "c")])
            .unwrap()
            .unwrap();
        assert_eq!(keys.value.id, "a");
        assert_eq!(keys.value.secret.expose(), "b");
        assert_eq!(keys.value.token.unwrap().expose(), "c");
        assert_eq!(keys.expires, None);
    }
}
