// Starts the dashboard, and says so plainly where a browser cannot.
import init from './app.js';

try {
  await init();
} catch (error) {
  const message = document.createElement('p');
  message.textContent = `The dashboard cannot start in this browser: ${error}`;
  document.body.append(message);
}
