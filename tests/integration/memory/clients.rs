//! The same for what clients meet: their tokens, and the private keys of TLS.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;

use super::{ROTATIONS, all_gone, forms, secret};
use crate::common::tls::{Identity, Tls, authority};
use crate::common::{Ask, Client, Http, Setup, Upstream, memory, until};

#[tokio::test]
async fn a_replaced_token_of_a_client_is_gone() {
    let upstream = Upstream::https();
    let setup = Setup::before(&upstream);
    let file = setup.file("token", &secret(0));
    let setup = setup.tcp_listener(&format!("tokens = {{ ci = {{ file = {file:?} }} }}\n"));
    let daemon = setup.start().await;
    if !memory::is_open(daemon.pid()) {
        return;
    }
    let call = async |number| {
        for _ in 0..3 {
            let token = format!("Bearer {}", secret(number));
            let ask = Ask::get("/").header("authorization", &token);
            assert_eq!(daemon.ask(ask).await.status, 200);
        }
    };
    for number in 0..=ROTATIONS {
        daemon.setup.file("token", &secret(number));
        daemon.reload().await;
        call(number).await;
    }
    until("all clients are gone", || {
        daemon.status()["connections"] == 0
    })
    .await;
    let retired = (0..ROTATIONS).map(secret);
    let needles: Vec<_> = retired.flat_map(|it| forms(&it)).collect();
    let what = "as it is, in hex, in Base64, as pads";
    all_gone(&daemon, what, &needles, || call(ROTATIONS)).await;
}

/// The key as PEM and in PKCS #8, and its number in either order of bytes.
fn forms_of_key(identity: &Identity) -> Vec<Vec<u8>> {
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap();
    let der = key.secret_der();
    // RFC 5915: the version 1, and an octet string of 32.
    let at = memchr::memmem::find(der, &[2, 1, 1, 4, 32]).unwrap() + 5;
    let number = der[at..at + 32].to_vec();
    let reversed = number.iter().rev().copied().collect();
    let line = BASE64.encode(der).as_bytes()[..64].to_vec();
    vec![line, number, reversed]
}

#[tokio::test]
async fn replaced_private_keys_of_tls_are_gone() {
    let upstream = Upstream::tls(Tls {
        wants_client: true,
        ..Tls::default()
    });
    let issue = || authority().issue(&["localhost"]);
    let write = |setup: &Setup, [own, at_upstream]: &[Identity; 2]| {
        setup.file("own.pem", &own.certificate);
        setup.file("own.key", &own.key);
        setup.file("client.pem", &at_upstream.certificate);
        setup.file("client.key", &at_upstream.key);
    };
    let first = [issue(), issue()];
    let setup = Setup::before(&upstream);
    let path = |name: &str| format!("{:?}", setup.path(name));
    let tls = format!(
        "tls = {{ cert = {}, key = {} }}\n",
        path("own.pem"),
        path("own.key")
    );
    let client = format!(
        "client_cert = {}\nclient_key = {}",
        path("client.pem"),
        path("client.key")
    );
    write(&setup, &first);
    let daemon = setup.tcp_listener(&tls).upstream(&client).start().await;
    if !memory::is_open(daemon.pid()) {
        return;
    }
    let in_use: Vec<_> = first.iter().flat_map(forms_of_key).collect();
    let found = memory::count(daemon.pid(), &in_use).await;
    // They are in use, so they must be somewhere: the search can find them.
    assert!(
        found.chunks(3).all(|forms| forms.iter().sum::<usize>() > 0),
        "{found:?}"
    );
    let mut retired = in_use;
    let call = async || {
        for http in [Http::One, Http::Two] {
            let mut client = Client::tls(daemon.address(), None, http).await.unwrap();
            assert_eq!(client.ask(Ask::get("/")).await.status, 200);
        }
    };
    for rotation in 0..ROTATIONS {
        let next = [issue(), issue()];
        write(&daemon.setup, &next);
        daemon.reload().await;
        call().await;
        if rotation + 1 < ROTATIONS {
            retired.extend(next.iter().flat_map(forms_of_key));
        }
    }
    until("all clients are gone", || {
        daemon.status()["connections"] == 0
    })
    .await;
    let what = "of each listener's and upstream's key a line of PEM, the number, and backwards";
    all_gone(&daemon, what, &retired, call).await;
}
