// Serves the page, lets a headless Chromium draw each dashboard, and writes the pictures: draw.mjs PROMETHEUS_URL OUTPUT MINUTES GUARD
// GUARD is the one that the dashboard of one guard shows. Fails if a panel is empty or in error, and names it.
import { spawn } from 'node:child_process';
import { mkdir, mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { extname, join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';

const [prometheus, output, minutes, guard] = process.argv.slice(2);
const here = fileURLToPath(new URL('.', import.meta.url));
const WIDTH = 1600;
const PATIENCE = 120_000;
const FOLDERS = {
  '/dashboards/': join(here, '../dashboards'),
  '/public/build/': join(here, 'node_modules/@grafana/ui/dist/public'),
  '/dist/': join(here, 'dist'),
  '/': here,
};
const TYPES = { '.html': 'text/html', '.js': 'text/javascript', '.css': 'text/css', '.svg': 'image/svg+xml', '.json': 'application/json' };

async function serve() {
  const server = createServer(async (request, response) => {
    const path = normalize(decodeURIComponent(new URL(request.url, 'http://page').pathname));
    const start = Object.keys(FOLDERS).find((one) => path.startsWith(one));
    try {
      const body = await readFile(join(FOLDERS[start], path.slice(start.length) || 'index.html'));
      response.setHeader('Content-Type', TYPES[extname(path) || '.html'] ?? 'application/octet-stream').end(body);
    } catch {
      response.writeHead(404).end();
    }
  });
  await new Promise((done) => server.listen(0, '127.0.0.1', done));
  return server;
}

/** A Chromium that is spoken to through two pipes: one JSON message after another, each ended by a zero byte. */
class Browser {
  constructor(profile) {
    const flags = ['--headless=new', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--hide-scrollbars', '--remote-debugging-pipe'];
    this.child = spawn('chromium', [...flags, `--user-data-dir=${profile}`], {
      stdio: ['ignore', 'ignore', 'ignore', 'pipe', 'pipe'],
    });
    this.waiting = new Map();
    this.number = 0;
    this.exceptions = [];
    this.ended = new Promise((done) => this.child.on('exit', done).on('error', done));
    this.ended.then(() => this.waiting.forEach(({ fail }) => fail(new Error('chromium ended'))));
    let pending = '';
    this.child.stdio[4].setEncoding('utf8').on('data', (text) => {
      const parts = (pending + text).split('\0');
      pending = parts.pop();
      parts.forEach((part) => this.heard(JSON.parse(part)));
    });
  }

  heard({ id, result, error, method, params }) {
    if (method === 'Runtime.exceptionThrown') {
      const { exception, text } = params.exceptionDetails;
      this.exceptions.push(exception?.description ?? text);
    }
    const asked = this.waiting.get(id);
    this.waiting.delete(id);
    error ? asked?.fail(new Error(error.message)) : asked?.done(result);
  }

  ask(method, params = {}, sessionId = undefined) {
    const id = ++this.number;
    const answer = new Promise((done, fail) => this.waiting.set(id, { done, fail }));
    this.child.stdio[3].write(`${JSON.stringify({ id, method, params, sessionId })}\0`);
    return answer;
  }

  async end() {
    this.child.kill('SIGKILL');
    await this.ended;
  }
}

/** Draws one dashboard; answers what is wrong with it. */
async function draw(browser, origin, file) {
  const { targetId } = await browser.ask('Target.createTarget', { url: 'about:blank' });
  const { sessionId } = await browser.ask('Target.attachToTarget', { targetId, flatten: true });
  const page = (method, params) => browser.ask(method, params, sessionId);
  const size = (height) =>
    page('Emulation.setDeviceMetricsOverride', { width: WIDTH, height, deviceScaleFactor: 1, mobile: false });
  // High enough from the beginning, so that no panel waits until it is scrolled to.
  await size(4000);
  const asked = new URLSearchParams({ dashboard: file, prometheus, minutes });
  if (file.startsWith('storage-guard-node')) {
    asked.set('instance', guard);
  }
  await page('Runtime.enable');
  browser.exceptions = [];
  await page('Page.navigate', { url: `${origin}/?${asked}` });
  const until = Date.now() + PATIENCE;
  let drawn;
  while (!drawn) {
    if (Date.now() > until) {
      return [`${file}: not drawn within ${PATIENCE / 1000} s`];
    }
    await new Promise((done) => setTimeout(done, 200));
    const answer = await page('Runtime.evaluate', { expression: 'window.drawn', returnByValue: true });
    drawn = answer.result.value;
  }
  await size(Math.ceil(drawn.height));
  await new Promise((done) => setTimeout(done, 500));
  const { data } = await page('Page.captureScreenshot', { format: 'png' });
  await writeFile(join(output, file.replace('.json', '.png')), Buffer.from(data, 'base64'));
  const states = await page('Runtime.evaluate', {
    expression: `[...document.querySelectorAll('[data-state]')].map((panel) => {
      const failed = panel.querySelector('[data-failed]')?.dataset.failed;
      return failed ? { ...panel.dataset, state: 'error', why: failed } : { ...panel.dataset };
    })`,
    returnByValue: true,
  });
  const shown = states.result.value;
  const wrong = drawn.panels
    .map((panel) => shown.find(({ key }) => key === panel.key) ?? { ...panel, state: 'error', why: panel.why || 'it is not drawn' })
    .filter(({ state }) => state !== 'ok')
    .map(({ title, state, why }) => `${file}: "${title}" is ${state}: ${why}`);
  console.log(`${file}: ${drawn.panels.length} panels, ${wrong.length} empty or in error`);
  return [...wrong, ...browser.exceptions.map((text) => `${file}: ${text}`)];
}

await mkdir(output, { recursive: true });
const profile = await mkdtemp(join(tmpdir(), 'storage-guard-draw-'));
const server = await serve();
const browser = new Browser(profile);
const wrong = [];
try {
  for (const file of (await readdir(FOLDERS['/dashboards/'])).filter((name) => name.endsWith('.json')).sort()) {
    wrong.push(...(await draw(browser, `http://127.0.0.1:${server.address().port}`, file)));
  }
} finally {
  await browser.end();
  server.close();
  await rm(profile, { recursive: true, force: true, maxRetries: 5 });
}
wrong.forEach((line) => console.error(line));
process.exitCode = wrong.length ? 1 : 0;
