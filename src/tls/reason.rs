//! What went wrong, in words for whoever has to mend it.

use alloc::format;
use alloc::string::String;

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage};

use crate::machine::CloseReason;

/// Why rustls broke off. `peer` is "server" or "client"; `opened`: whether the handshake had been done.
pub(super) fn of_error(error: &Error, peer: &str, opened: bool) -> CloseReason {
    let text = match error {
        Error::InvalidMessage(InvalidMessage::HandshakePayloadTooLarge) => {
            format!("a handshake message of the {peer} does not come to an end ({error})")
        }
        Error::InvalidMessage(_) if !opened => format!("the {peer} does not speak TLS ({error})"),
        Error::InvalidMessage(_) | Error::DecryptError => {
            format!("what came is not what the {peer} has sent, or it breaks the protocol ({error})")
        }
        Error::NoCertificatesPresented => format!("the {peer} has shown no certificate, and must"),
        Error::InvalidCertificate(error) => certificate(error, peer),
        Error::AlertReceived(alert) => refusal(*alert, peer),
        Error::PeerIncompatible(_) | Error::NoApplicationProtocol => {
            format!("the {peer} and this side have nothing in common ({error})")
        }
        Error::InappropriateMessage { .. } | Error::InappropriateHandshakeMessage { .. } | Error::PeerMisbehaved(_) => {
            format!("the {peer} breaks the protocol ({error})")
        }
        _ => format!("{error}"),
    };
    CloseReason::Tls(text.into())
}

/// The `peer`'s certificate was not accepted here.
fn certificate(error: &CertificateError, peer: &str) -> String {
    let why = match error {
        CertificateError::UnknownIssuer => "it is not signed by a CA that is trusted here",
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "it has expired",
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => "it is not valid yet",
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => "it is for another name",
        CertificateError::Revoked => "it has been revoked",
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "it may not be used for this side"
        }
        _ => "it cannot be used",
    };
    format!("the {peer}'s certificate is refused: {why} ({error})")
}

/// The `peer` does not accept this side.
fn refusal(alert: AlertDescription, peer: &str) -> String {
    let why = match alert {
        AlertDescription::CertificateRequired | AlertDescription::NoCertificate => {
            "it wants a certificate of this side, which showed none"
        }
        AlertDescription::UnknownCA => "it does not trust the CA of this side's certificate",
        AlertDescription::CertificateExpired => "this side's certificate has expired",
        AlertDescription::CertificateRevoked => "this side's certificate has been revoked",
        AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateUnknown => "it does not accept this side's certificate",
        AlertDescription::UnrecognisedName => "it has no certificate for the name that was asked for",
        AlertDescription::ProtocolVersion => "it has no version of TLS in common with this side",
        AlertDescription::HandshakeFailure => "it has no cipher in common, or wants a certificate of this side",
        AlertDescription::DecodeError | AlertDescription::UnexpectedMessage => "it may not speak TLS",
        _ => "it broke off",
    };
    format!("the {peer} refuses: {why} (alert {alert:?})")
}

/// The connection ended, as `reason` says, before the handshake was done.
pub(super) fn of_early_end(reason: &CloseReason, peer: &str) -> CloseReason {
    match reason {
        CloseReason::Ended | CloseReason::Reset => CloseReason::Tls(
            format!("the {peer} broke off the handshake ({reason}): it may not speak TLS, or not accept this side")
                .into(),
        ),
        other => other.clone(),
    }
}

/// The handshake was not done in time.
pub(super) fn too_slow(peer: &str) -> CloseReason {
    CloseReason::Tls(format!("the {peer} did not answer the handshake in time: it may not speak TLS").into())
}

/// No certificate can be for this host.
pub(super) fn no_name(host: &str) -> CloseReason {
    CloseReason::Tls(format!("{host:?} is no name that a certificate can be for: give the server's name").into())
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    #[test]
    fn each_alert_says_what_to_look_at() {
        for (alert, text) in [
            (AlertDescription::CertificateRequired, "wants a certificate of this side"),
            (AlertDescription::NoCertificate, "wants a certificate of this side"),
            (AlertDescription::UnknownCA, "does not trust the CA"),
            (AlertDescription::CertificateExpired, "certificate has expired"),
            (AlertDescription::CertificateRevoked, "has been revoked"),
            (AlertDescription::BadCertificate, "does not accept this side's certificate"),
            (AlertDescription::UnsupportedCertificate, "does not accept this side's certificate"),
            (AlertDescription::CertificateUnknown, "does not accept this side's certificate"),
            (AlertDescription::UnrecognisedName, "no certificate for the name"),
            (AlertDescription::ProtocolVersion, "no version of TLS in common"),
            (AlertDescription::HandshakeFailure, "no cipher in common"),
            (AlertDescription::DecodeError, "may not speak TLS"),
            (AlertDescription::UnexpectedMessage, "may not speak TLS"),
            (AlertDescription::InternalError, "it broke off"),
        ] {
            let reason = of_error(&Error::AlertReceived(alert), "server", false).to_string();
            assert!(reason.contains("the server refuses: ") && reason.contains(text), "{reason}");
        }
    }

    #[test]
    fn each_fault_of_a_certificate_is_named() {
        for (fault, text) in [
            (CertificateError::UnknownIssuer, "not signed by a CA that is trusted"),
            (CertificateError::Expired, "it has expired"),
            (CertificateError::NotValidYet, "not valid yet"),
            (CertificateError::NotValidForName, "for another name"),
            (CertificateError::Revoked, "been revoked"),
            (CertificateError::InvalidPurpose, "not be used for this side"),
            (CertificateError::BadEncoding, "it cannot be used"),
        ] {
            let reason = of_error(&Error::InvalidCertificate(fault), "client", false).to_string();
            assert!(reason.contains("the client's certificate is refused: ") && reason.contains(text), "{reason}");
        }
    }

    #[test]
    fn it_is_said_whose_fault_it_is() {
        use rustls::{InvalidMessage, PeerIncompatible, PeerMisbehaved};
        let invalid = Error::InvalidMessage(InvalidMessage::InvalidContentType);
        for (error, opened, text) in [
            (invalid.clone(), false, "the server does not speak TLS"),
            (invalid, true, "is not what the server has sent"),
            (Error::DecryptError, true, "is not what the server has sent"),
            (Error::NoCertificatesPresented, false, "the server has shown no certificate"),
            (Error::PeerIncompatible(PeerIncompatible::NoCipherSuitesInCommon), false, "have nothing in common"),
            (Error::NoApplicationProtocol, false, "have nothing in common"),
            (Error::PeerMisbehaved(PeerMisbehaved::TooManyEmptyFragments), true, "the server breaks the protocol"),
            (Error::General("this side".into()), true, "this side"),
        ] {
            let reason = of_error(&error, "server", opened).to_string();
            assert!(reason.contains(text), "{reason}");
        }
    }

    #[test]
    fn only_an_end_of_the_peers_own_is_laid_to_tls() {
        for reason in [CloseReason::Ended, CloseReason::Reset] {
            assert!(of_early_end(&reason, "server").to_string().contains("the server broke off the handshake"));
        }
        assert_eq!(of_early_end(&CloseReason::Local, "server"), CloseReason::Local);
    }
}
