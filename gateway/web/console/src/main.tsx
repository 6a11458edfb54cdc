import './theme.css';
import { createQueryClient, DarkroomProvider } from '@darkroom/client';
import { createClient } from '@supabase/supabase-js';
import { type QueryClient, QueryClientProvider } from '@tanstack/react-query';
import { StrictMode } from 'react';
import { createRoot, type Root } from 'react-dom/client';
import { App, Boundary, Broken } from './app/App';
import { readConfig, signInOf } from './app/config';
import { ToastProvider } from './app/toasts';

declare global {
  interface Window {
    /** For the browser's console: what the page has read. */
    queryClient: QueryClient;
  }
}

async function start(root: Root): Promise<void> {
  const config = await readConfig();
  const client = createClient(location.origin, config.key, { auth: { detectSessionInUrl: false } });
  const signInByAddress = async () => {
    const signIn = signInOf(location.hash);
    if (!signIn) return;
    // The address must not keep a password, nor the history.
    history.replaceState(null, '', location.pathname);
    await client.auth.signInWithPassword(signIn);
  };
  await signInByAddress();
  // Such an address may also be pasted into a tab that is here already.
  addEventListener('hashchange', () => void signInByAddress());
  const queryClient = createQueryClient();
  window.queryClient = queryClient;
  root.render(
    <StrictMode>
      <QueryClientProvider client={queryClient}>
        <DarkroomProvider client={client}>
          <ToastProvider>
            <Boundary>
              <App config={config} />
            </Boundary>
          </ToastProvider>
        </DarkroomProvider>
      </QueryClientProvider>
    </StrictMode>,
  );
}

const root = createRoot(document.getElementById('root') as HTMLElement);
start(root).catch((error: unknown) => root.render(<Broken error={error} />));
