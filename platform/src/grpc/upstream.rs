//! Where a service answers: one address, or several replicas.

use http::Uri;
use http::uri::{Authority, Scheme};

use super::tls::Tls;

/// Where a service answers gRPC. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Upstream {
    places: Vec<Place>,
    tls: Option<Tls>,
}

/// One of the configured addresses. A name stands for every address that it resolves to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) scheme: Scheme,
    pub(super) host: String,
    pub(super) port: u16,
}

impl Upstream {
    /// Reads `http://host:port` or a list of such, separated by commas. With `https`, `tls` says what is shown and
    /// whom to believe.
    ///
    /// # Errors
    /// What is wrong, for a person.
    pub fn parse(text: &str, tls: Option<&Tls>) -> Result<Self, String> {
        Ok(Self {
            places: Self::read(text, tls.is_some())?,
            tls: tls.cloned(),
        })
    }

    /// What is wrong with an address, when something is; `has_tls` tells whether TLS between services is on.
    pub fn problem(text: &str, has_tls: bool) -> Option<String> {
        Self::read(text, has_tls).err()
    }

    fn read(text: &str, has_tls: bool) -> Result<Vec<Place>, String> {
        let places = text
            .split(',')
            .map(str::trim)
            .filter(|one| !one.is_empty())
            .map(|one| {
                let uri: Uri = one.parse().map_err(|_| format!("`{one}` is not a URL"))?;
                Place::of(&uri).ok_or_else(|| {
                    format!("`{one}` must be of the form http://host:port or https://host:port")
                })
            })
            .collect::<Result<Vec<_>, String>>()?;
        if places.is_empty() {
            return Err("must name at least one http://host:port".to_owned());
        }
        if !has_tls && places.iter().any(|place| place.scheme == Scheme::HTTPS) {
            return Err("https needs tls.certificate, tls.key and tls.ca".to_owned());
        }
        if has_tls && places.iter().any(|place| place.scheme == Scheme::HTTP) {
            return Err("must begin with https:// where TLS between services is on".to_owned());
        }
        Ok(places)
    }

    pub(super) fn places(&self) -> &[Place] {
        &self.places
    }

    pub(super) fn tls(&self) -> Option<&Tls> {
        self.tls.as_ref()
    }
}

impl std::str::FromStr for Upstream {
    type Err = String;

    /// As [`Upstream::parse`], without TLS.
    fn from_str(text: &str) -> Result<Self, String> {
        Self::parse(text, None)
    }
}

impl From<Uri> for Upstream {
    /// A single address without TLS; anything else never answers.
    fn from(uri: Uri) -> Self {
        Self {
            places: Place::of(&uri).into_iter().collect(),
            tls: None,
        }
    }
}

impl Place {
    fn of(uri: &Uri) -> Option<Self> {
        let scheme = uri.scheme()?.clone();
        let authority: &Authority = uri.authority()?;
        let bare = matches!(uri.path(), "" | "/") && uri.query().is_none();
        if ![Scheme::HTTP, Scheme::HTTPS].contains(&scheme) || !bare {
            return None;
        }
        if authority.as_str().contains('@') {
            return None;
        }
        let default = if scheme == Scheme::HTTPS { 443 } else { 80 };
        Some(Self {
            host: authority.host().trim_matches(['[', ']']).to_owned(),
            port: authority.port_u16().unwrap_or(default),
            scheme,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_names_every_replica() {
        let upstream =
            Upstream::parse("http://127.0.0.1:1, http://[::1]:2 ,http://wallet:3/", None).unwrap();
        let places: Vec<_> = upstream
            .places()
            .iter()
            .map(|place| (place.host.as_str(), place.port))
            .collect();
        assert_eq!(places, [("127.0.0.1", 1), ("::1", 2), ("wallet", 3)]);
    }

    #[test]
    fn what_is_no_address_is_told() {
        for wrong in [
            "",
            " , ",
            "wallet:50051",
            "ftp://wallet:1",
            "http://wallet:1/path",
            "http://user@wallet:1",
            "https://wallet:1",
        ] {
            assert!(Upstream::parse(wrong, None).is_err(), "{wrong:?}");
        }
    }
}
