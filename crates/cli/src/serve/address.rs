//! Where the server listens.

use std::net::SocketAddr;

use anyhow::Result;
use tokio::net::TcpListener;

use crate::failure::Refusal;

/// Listens, or says how to listen elsewhere.
pub(super) async fn listen_on(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        let message = format!("{address} cannot be listened on: {error}");
        let hint = "name another address with --listen, such as `--listen 127.0.0.1:7701`";
        Refusal::with_hint(message, hint).into()
    })
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[tokio::test]
    async fn a_port_that_is_taken_names_the_way_to_another() {
        let taken = listen_on((Ipv4Addr::LOCALHOST, 0).into()).await.unwrap();
        let error = listen_on(taken.local_addr().unwrap()).await.unwrap_err();
        assert!(error.to_string().contains("cannot be listened on"));
        let refusal: &Refusal = error.downcast_ref().unwrap();
        assert!(format!("{refusal:?}").contains("--listen"));
    }
}
