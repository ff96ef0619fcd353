// xterm.js is fetched only when a terminal opens.

// xterm.js adds <style> elements, which `style-src 'self'` forbids, even empty ones; a constructed
// sheet is allowed.
function withSheets(sheets, act) {
  const real = document.createElement;
  document.createElement = (name, options) => {
    if (name !== 'style') return real.call(document, name, options);
    const element = real.call(document, 'template');
    const sheet = new CSSStyleSheet();
    sheets.push(sheet);
    document.adoptedStyleSheets.push(sheet);
    return Object.defineProperty(element, 'textContent', { set: (css) => sheet.replaceSync(css) });
  };
  try {
    return act();
  } finally {
    delete document.createElement;
  }
}

export async function open(element, onData, onSize) {
  const [{ Terminal }, { FitAddon }, { WebglAddon }] = await Promise.all(
    ['xterm', 'addon-fit', 'addon-webgl'].map((name) => import(`../../../vendor/${name}.mjs`)),
  );
  const terminal = new Terminal({
    cursorBlink: !matchMedia('(prefers-reduced-motion: reduce)').matches,
    scrollback: 10000,
    fontFamily: 'ui-monospace, SFMono-Regular, Menlo, Consolas, monospace',
    fontSize: 13,
    screenReaderMode: false,
    theme: { background: '#0a0d11', foreground: '#e8ecf2', cursor: '#74a9ff' },
  });
  const fit = new FitAddon();
  const sheets = [];
  const encoder = new TextEncoder();
  terminal.loadAddon(fit);
  withSheets(sheets, () => terminal.open(element));
  try {
    const webgl = new WebglAddon();
    webgl.onContextLoss(() => withSheets(sheets, () => webgl.dispose()));
    terminal.loadAddon(webgl);
  } catch {
    // No WebGL 2: the slower renderer stays.
  }
  // Everything typed goes to the container, Tab too: one way out is needed.
  terminal.attachCustomKeyEventHandler((event) => {
    if (event.ctrlKey && event.shiftKey && event.code === 'Period') {
      terminal.blur();
      document.querySelector('main h1')?.focus();
      return false;
    }
    return true;
  });
  terminal.onData((text) => onData(encoder.encode(text)));
  terminal.onBinary((text) => onData(Uint8Array.from(text, (c) => c.charCodeAt(0))));
  terminal.onResize(({ cols, rows }) => onSize(rows, cols));
  const observer = new ResizeObserver(() => fit.fit());
  observer.observe(element);
  fit.fit();
  onSize(terminal.rows, terminal.cols);
  terminal.focus();
  // Tests read the screen here: with WebGL there is no text in the page.
  element.terminal = terminal;
  return { terminal, observer, sheets };
}

export function write(handle, bytes) {
  handle.terminal.write(bytes);
}

export function dispose(handle) {
  handle.observer.disconnect();
  handle.terminal.dispose();
  document.adoptedStyleSheets = document.adoptedStyleSheets.filter((s) => !handle.sheets.includes(s));
}
