//! The authority that signs: its certificate and its key.

use std::net::IpAddr;

use chrono::{DateTime, Datelike, Days, Months, Utc};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData,
    SanType, SerialNumber,
};
use uuid::Uuid;

use super::{
    IdentityError, Member,
    certificate::{AuthorityCertificate, node_host},
};

/// As long as the dialect's certificates last.
const VALID_MONTHS: Months = Months::new(120);
/// Names and addresses in one certificate at most.
const HOSTS_MAX: usize = 64;

pub(super) struct Authority {
    certificate: AuthorityCertificate,
    issuer: Issuer<'static, KeyPair>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

impl Authority {
    pub(super) fn generate(cluster: Uuid, now: DateTime<Utc>) -> Result<Self, IdentityError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name = name(&format!("stapes cluster {cluster}"), cluster);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        set_validity(&mut params, now);
        let pem = params.self_signed(&key)?.pem();
        let certificate = AuthorityCertificate::parse(&pem).map_err(IdentityError::BadAdmission)?;
        Ok(Self { certificate, issuer: Issuer::new(params, key) })
    }

    pub(super) fn from_pem(certificate: &AuthorityCertificate, key: &str) -> Result<Self, String> {
        let key = KeyPair::from_pem(key).map_err(|error| format!("not a key: {error}"))?;
        if key.subject_public_key_info() != certificate.public_key() {
            return Err("the key is not that of the authority's certificate".to_owned());
        }
        let issuer = Issuer::from_ca_cert_pem(certificate.pem(), key)
            .map_err(|error| format!("not an authority: {error}"))?;
        Ok(Self { certificate: certificate.clone(), issuer })
    }

    pub(super) fn certificate(&self) -> &AuthorityCertificate {
        &self.certificate
    }

    pub(super) fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    pub(super) fn sign(
        &self,
        key: &impl PublicKeyData,
        member: &Member,
        now: DateTime<Utc>,
    ) -> Result<String, IdentityError> {
        Ok(node_params(member, now)?.signed_by(key, &self.issuer)?.pem())
    }

    pub(super) fn sign_request(
        &self,
        request: &str,
        member: &Member,
        now: DateTime<Utc>,
    ) -> Result<String, IdentityError> {
        let bad = |reason: String| IdentityError::BadRequest { node: member.node, reason };
        let request = CertificateSigningRequestParams::from_pem(request)
            .map_err(|error| bad(error.to_string()))?;
        let asked = request.params.distinguished_name.get(&DnType::CommonName);
        if asked.and_then(text) != Some(member.node.to_string().as_str()) {
            return Err(bad("it names another node".to_owned()));
        }
        self.sign(&request.public_key, member, now)
    }
}

fn text(value: &rcgen::DnValue) -> Option<&str> {
    match value {
        rcgen::DnValue::Utf8String(text) => Some(text),
        rcgen::DnValue::PrintableString(text) => Some(text.as_str()),
        // No other kind is ours, and the library's list may grow.
        rcgen::DnValue::BmpString(_)
        | rcgen::DnValue::Ia5String(_)
        | rcgen::DnValue::TeletexString(_)
        | rcgen::DnValue::UniversalString(_)
        | _ => None,
    }
}

fn node_params(member: &Member, now: DateTime<Utc>) -> Result<CertificateParams, IdentityError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = name(&member.node.to_string(), member.cluster);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    // The library derives serial numbers from keys; a renewed certificate keeps its key.
    params.serial_number = Some(SerialNumber::from_slice(Uuid::new_v4().as_bytes()));
    params.subject_alt_names = subject_names(member)?;
    set_validity(&mut params, now);
    Ok(params)
}

/// The node's own name comes first; loopback is in it for the clients on the node itself.
fn subject_names(member: &Member) -> Result<Vec<SanType>, IdentityError> {
    let mut hosts = vec![node_host(member.node)];
    for host in member.hosts.iter().map(String::as_str).chain(["localhost", "127.0.0.1", "::1"]) {
        if hosts.len() > HOSTS_MAX || !fits(host) {
            return Err(IdentityError::BadHost(host.to_owned()));
        }
        if !hosts.iter().any(|known| known == host) {
            hosts.push(host.to_owned());
        }
    }
    hosts.into_iter().map(subject_name).collect()
}

fn subject_name(host: String) -> Result<SanType, IdentityError> {
    match host.parse::<IpAddr>() {
        Ok(address) => Ok(SanType::IpAddress(address)),
        Err(_) => match host.as_str().try_into() {
            Ok(name) => Ok(SanType::DnsName(name)),
            Err(_) => Err(IdentityError::BadHost(host)),
        },
    }
}

/// An address, or a host name outside of the names that stapes gives itself: under those the log's
/// servers know who connects.
fn fits(host: &str) -> bool {
    if let Ok(address) = host.parse::<IpAddr>() {
        return !address.is_unspecified();
    }
    let lower = host.to_ascii_lowercase();
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    host.len() <= 253
        && host.split('.').all(label)
        && lower != "stapes"
        && !lower.ends_with(".stapes")
}

fn name(common: &str, cluster: Uuid) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, cluster.to_string());
    name.push(DnType::CommonName, common);
    name
}

/// From a day before, so that members whose clocks differ agree.
fn set_validity(params: &mut CertificateParams, now: DateTime<Utc>) {
    let from = now.checked_sub_days(Days::new(1)).unwrap_or(now);
    let until = now.checked_add_months(VALID_MONTHS).unwrap_or(now);
    // rcgen's own date type, which no other part of stapes needs.
    let part = |value: u32| u8::try_from(value).unwrap_or(1);
    params.not_before = rcgen::date_time_ymd(from.year(), part(from.month()), part(from.day()));
    params.not_after = rcgen::date_time_ymd(until.year(), part(until.month()), part(until.day()));
}
