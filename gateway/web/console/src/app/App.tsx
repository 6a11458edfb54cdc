import { useProjects } from '@darkroom/client';
import type { Session } from '@supabase/supabase-js';
import { FolderPlus } from 'lucide-react';
import { Component, type ReactNode } from 'react';
import { navigate } from 'wouter/use-browser-location';
import { Button, Empty, Failure, Spinner } from '../ui/ui';
import css from './App.module.css';
import type { Config } from './config';
import { NewProject } from './Projects';
import { pathOf } from './routes';
import { Shell } from './Shell';
import { SignIn } from './SignIn';
import { useSession } from './session';

/** The console: a sign-in, then the projects of who signed in. */
export function App({ config }: { config: Config }) {
  const session = useSession();
  switch (session.kind) {
    case 'loading':
      return <Waiting />;
    case 'out':
      return <SignIn expired={session.expired} />;
    case 'in':
      return <Projects key={session.session.user.id} session={session.session} signOut={session.signOut} dev={config.dev} />;
  }
}

function Projects({ session, signOut, dev }: { session: Session; signOut: () => void; dev: boolean }) {
  const projects = useProjects();
  if (projects.data && projects.data.length > 0) return <Shell session={session} signOut={signOut} projects={projects.data} dev={dev} />;
  if (projects.data) {
    return (
      <div className={css.center}>
        <Empty
          icon={<FolderPlus />}
          title="Begin with a project"
          testId="no-project"
          actions={
            <Button look="quiet" onClick={signOut}>
              Sign out
            </Button>
          }
        >
          <p>A project keeps pictures, videos, shots and what is being made together. Only you see yours.</p>
          <NewProject className={css.first} made={(id) => navigate(pathOf(id, { page: 'gallery' }))} />
        </Empty>
      </div>
    );
  }
  if (projects.isError) {
    return (
      <div className={css.center}>
        <Failure what="Your projects" error={projects.error} retry={() => void projects.refetch()} />
      </div>
    );
  }
  return <Waiting />;
}

function Waiting() {
  return (
    <div className={css.center}>
      <Spinner />
    </div>
  );
}

/** What is shown where the page itself went wrong: the words, and a way to begin anew. */
export class Boundary extends Component<{ children: ReactNode }, { error: unknown }> {
  override state: { error: unknown } = { error: null };

  static getDerivedStateFromError(error: unknown) {
    return { error };
  }

  override render() {
    if (this.state.error === null) return this.props.children;
    return <Broken error={this.state.error} />;
  }
}

export function Broken({ error }: { error: unknown }) {
  return (
    <div className={css.center} role="alert" data-testid="broken">
      <Empty
        icon="!"
        title="The console could not go on"
        actions={
          <Button look="primary" onClick={() => location.reload()}>
            Load it anew
          </Button>
        }
      >
        <p>{error instanceof Error ? error.message : String(error)}</p>
      </Empty>
    </div>
  );
}
