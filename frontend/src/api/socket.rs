//! One WebSocket of postcard frames, closed when it is dropped.

use serde::Serialize;
use serde::de::DeserializeOwned;
use wasm_bindgen::prelude::*;
use web_sys::{BinaryType, MessageEvent, WebSocket};
use wharf_shared::live::SUBPROTOCOL_POSTCARD;

use crate::browser;

/// An open or opening WebSocket. Dropping it closes it and calls nothing more.
pub(crate) struct Socket {
    connection: WebSocket,
    _opened: Closure<dyn FnMut()>,
    _message: Closure<dyn FnMut(MessageEvent)>,
    _closed: Closure<dyn FnMut()>,
}

impl Socket {
    /// Opens `path` of this page's host. `message` gets what could be read, `closed` is called once.
    pub(crate) fn open<T: DeserializeOwned>(
        path: &str,
        opened: impl FnMut() + 'static,
        mut message: impl FnMut(T) + 'static,
        closed: impl FnMut() + 'static,
    ) -> Option<Self> {
        let url = format!("{}{path}", browser::socket_origin());
        let socket = WebSocket::new_with_str(&url, SUBPROTOCOL_POSTCARD).ok()?;
        socket.set_binary_type(BinaryType::Arraybuffer);
        let opened = Closure::<dyn FnMut()>::new(opened);
        let message = Closure::<dyn FnMut(MessageEvent)>::new(move |event: MessageEvent| {
            let Ok(buffer) = event.data().dyn_into::<js_sys::ArrayBuffer>() else { return };
            match postcard::from_bytes(&js_sys::Uint8Array::new(&buffer).to_vec()) {
                Ok(frame) => message(frame),
                Err(error) => leptos::logging::error!("a frame cannot be read: {error}"),
            }
        });
        let closed = Closure::<dyn FnMut()>::new(closed);
        socket.set_onopen(Some(opened.as_ref().unchecked_ref()));
        socket.set_onmessage(Some(message.as_ref().unchecked_ref()));
        socket.set_onclose(Some(closed.as_ref().unchecked_ref()));
        Some(Self { connection: socket, _opened: opened, _message: message, _closed: closed })
    }

    /// Sends a frame, if the socket is open.
    pub(crate) fn send<T: Serialize>(&self, frame: &T) {
        if self.connection.ready_state() != WebSocket::OPEN {
            return;
        }
        if let Ok(bytes) = postcard::to_allocvec(frame) {
            self.connection.send_with_u8_array(&bytes).ok();
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.connection.set_onopen(None);
        self.connection.set_onmessage(None);
        self.connection.set_onclose(None);
        self.connection.close().ok();
    }
}
