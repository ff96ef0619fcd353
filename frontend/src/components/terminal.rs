//! A terminal on an exec: xterm.js is fetched when the first one opens.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use leptos::html;
use leptos::prelude::*;
use wasm_bindgen::prelude::*;
use wharf_shared::auth::WsTicket;
use wharf_shared::container::{ExecSpec, ExecView};
use wharf_shared::id::ContainerId;
use wharf_shared::live::{StreamInput, StreamOutput};

use crate::api::{Api, Failure, Socket};
use crate::view::command;

#[wasm_bindgen(module = "/js/terminal.js")]
extern "C" {
    #[wasm_bindgen(catch)]
    async fn open(
        element: &web_sys::Element,
        on_data: &Closure<dyn FnMut(js_sys::Uint8Array)>,
        on_size: &Closure<dyn FnMut(u16, u16)>,
    ) -> Result<JsValue, JsValue>;
    // Not `&[u8]`: that is a view of wasm memory, and xterm.js reads it later, when it holds something else.
    fn write(terminal: &JsValue, bytes: &js_sys::Uint8Array);
    fn dispose(terminal: &JsValue);
}

/// All that a terminal keeps alive; dropped, and so closed, with the page.
struct Session {
    terminal: JsValue,
    socket: Rc<RefCell<Option<Socket>>>,
    _data: Closure<dyn FnMut(js_sys::Uint8Array)>,
    _size: Closure<dyn FnMut(u16, u16)>,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.socket.borrow_mut().take();
        dispose(&self.terminal);
    }
}

/// How the session stands.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Status {
    Idle,
    Opening,
    Open,
    Ended(i32),
    Broken(String),
}

/// A shell in a running container.
#[component]
pub(crate) fn Terminal(
    /// Where.
    container: ContainerId,
) -> impl IntoView {
    let api = Api::expect();
    let element = NodeRef::<html::Div>::new();
    let status = RwSignal::new(Status::Idle);
    let typed = RwSignal::new("/bin/sh".to_owned());
    let session = StoredValue::new_local(None::<Session>);
    on_cleanup(move || drop(session.try_update_value(Option::take)));
    let start = move |event: web_sys::SubmitEvent| {
        event.prevent_default();
        let Some(element) = element.get_untracked() else { return };
        let words = match command::split(&typed.get_untracked()) {
            Ok(words) if !words.is_empty() => words,
            Ok(_) => return status.set(Status::Broken("A command is needed, such as /bin/sh".to_owned())),
            Err(detail) => return status.set(Status::Broken(detail)),
        };
        drop(session.try_update_value(Option::take));
        status.set(Status::Opening);
        let container = container.clone();
        leptos::task::spawn_local(async move {
            match begin(api, container, words, &element, status).await {
                Ok(opened) => {
                    session.try_set_value(Some(opened));
                }
                Err(detail) => {
                    status.try_set(Status::Broken(detail));
                }
            }
        });
    };
    let is_open = move || matches!(status.get(), Status::Open | Status::Opening);
    let words = move || match status.get() {
        Status::Idle => "Not connected".to_owned(),
        Status::Opening => "Connecting…".to_owned(),
        Status::Open => "Connected · Ctrl+Shift+. leaves the terminal".to_owned(),
        Status::Ended(code) => format!("The command ended with code {code}"),
        Status::Broken(detail) => detail,
    };
    view! {
        <form class="bar" on:submit=start>
            <label class="inline">"Command " <input type="text" name="command" spellcheck="false"
                autocomplete="off" bind:value=typed/></label>
            <button type="submit" class="primary" prop:disabled=is_open>"Connect"</button>
            <span class="muted" role="status" data-testid="terminal-status">{words}</span>
        </form>
        <div class="terminal-frame" data-testid="terminal" node_ref=element></div>
    }
    .into_any()
}

async fn begin(
    api: Api,
    container: ContainerId,
    words: Vec<String>,
    element: &web_sys::HtmlDivElement,
    status: RwSignal<Status>,
) -> Result<Session, String> {
    let socket: Rc<RefCell<Option<Socket>>> = Rc::default();
    let size = Rc::new(Cell::new((24_u16, 80_u16)));
    let send = {
        let socket = Rc::clone(&socket);
        move |input: &StreamInput| {
            if let Some(socket) = &*socket.borrow() {
                socket.send(input);
            }
        }
    };
    let data = {
        let send = send.clone();
        Closure::new(move |bytes: js_sys::Uint8Array| send(&StreamInput::Stdin(bytes.to_vec())))
    };
    let on_size = {
        let (send, size) = (send.clone(), Rc::clone(&size));
        Closure::new(move |rows: u16, columns: u16| {
            size.set((rows, columns));
            send(&StreamInput::Resize { rows, columns });
        })
    };
    let terminal = open(element, &data, &on_size).await.map_err(|error| format!("No terminal: {error:?}"))?;
    // From here on a failure takes the terminal down with it.
    let session = Session { terminal, socket: Rc::clone(&socket), _data: data, _size: on_size };
    let say = |failure: Failure| failure.to_string();
    let spec = ExecSpec {
        command: words,
        terminal: true,
        stdin: true,
        terminal_size: Some(size.get()),
        ..ExecSpec::default()
    };
    let exec: ExecView =
        api.send("POST", format!("/containers/{container}/exec"), Some(&spec)).await.map_err(say)?;
    let ticket: WsTicket =
        api.send::<(), _>("POST", "/auth/ws-ticket".to_owned(), None).await.map_err(say)?;
    let hello = StreamInput::Hello { ticket: Some(ticket.ticket) };
    let shown = session.terminal.clone();
    let opened = {
        let send = send.clone();
        move || send(&hello)
    };
    let told = move |output: StreamOutput| match output {
        StreamOutput::Started => {
            let (rows, columns) = size.get();
            send(&StreamInput::Resize { rows, columns });
            status.try_set(Status::Open);
        }
        StreamOutput::Stdout(bytes) | StreamOutput::Stderr(bytes) => {
            write(&shown, &js_sys::Uint8Array::from(bytes.as_slice()));
        }
        // An exec's output comes by no log that could be rotated.
        StreamOutput::Missed(_) => {}
        StreamOutput::Exited(code) => {
            status.try_set(Status::Ended(code));
        }
        StreamOutput::Refused(problem) => {
            status.try_set(Status::Broken(problem.detail));
        }
    };
    let closed = move || {
        let is_open = matches!(status.try_get_untracked(), Some(Status::Open | Status::Opening));
        if is_open {
            status.try_set(Status::Broken("The connection broke; the command was ended".to_owned()));
        }
    };
    let path = format!("/api/v1/containers/{container}/exec/{}", exec.exec_id);
    *socket.borrow_mut() = Socket::open(&path, opened, told, closed);
    Ok(session)
}
