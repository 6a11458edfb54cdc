import { type Project, useCredits, useShots, useTasks, useWebSocket } from '@darkroom/client';
import type { Session } from '@supabase/supabase-js';
import { Coins, Cpu, Images, Keyboard, ListVideo, LogOut, Plus, UserRound, WifiOff, Zap } from 'lucide-react';
import { lazy, type ReactNode, Suspense, useCallback, useEffect, useMemo, useState } from 'react';
import { Link } from 'wouter';
import { navigate, usePathname } from 'wouter/use-browser-location';
import type { CreateRequest } from '../create/request';
import { CreditsPage } from '../credits/CreditsPage';
import { GalleryPage } from '../gallery/GalleryPage';
import { ShotList } from '../gallery/Shots';
import { count, credits } from '../lib/words';
import { limits, openStatuses } from '../queue/data';
import { QueuePage } from '../queue/QueuePage';
import { Button, classes } from '../ui/ui';
import { WorkersPage } from '../workers/WorkersPage';
import { type Connection, useNotice } from './connection';
import { ConsoleProvider, useConsole } from './console';
import { Help } from './Help';
import { useMedia } from './media';
import { ProjectSwitcher } from './Projects';
import { locationOf, type Place, pathOf } from './routes';
import css from './Shell.module.css';
import { useShortcutSetting, useShortcuts } from './shortcuts';

// What is not needed at first is read when it is.
const readForm = () => import('../create/CreateDialog');
const readShots = () => import('../gallery/ShotPage');
const CreateDialog = lazy(readForm);
const ShotPage = lazy(readShots);
const patience = 3000; // milliseconds until it is read ahead, so that it is there when the server is not

interface ShellProps {
  session: Session;
  signOut: () => void;
  projects: Project[];
  dev: boolean;
}

const pageNames = { gallery: 'Gallery', shot: 'Shot', queue: 'Queue', workers: 'Workers', credits: 'Credits' };
const lastProject = 'darkroom.project';

/** Everything around a page: where one is, where one can go, and what is being made. */
export function Shell({ session, signOut, projects, dev }: ShellProps) {
  const path = usePathname();
  const { projectId, place } = useMemo(() => locationOf(path), [path]);
  const project = projects.find((p) => p.id === (projectId ?? localStorage.getItem(lastProject))) ?? (projects[0] as Project);
  const [creating, setCreating] = useState<CreateRequest | null>(null);
  const [helping, setHelping] = useState(false);
  const [shortcutsOn, setShortcutsOn] = useShortcutSetting();
  const connection = useWebSocket(project.id);
  const wide = useMedia('(min-width: 1080px)');
  const phone = useMedia('(max-width: 719px)');

  const shot = useShots(project.id).data?.find((s) => place.page === 'shot' && s.id === place.shotId)?.name;
  useEffect(() => {
    document.title = `${shot ?? pageNames[place.page]} – ${project.name} – Darkroom`;
  }, [shot, place.page, project.name]);

  useEffect(() => {
    const timer = setTimeout(() => void Promise.allSettled([readForm(), readShots()]), patience);
    return () => clearTimeout(timer);
  }, []);

  const go = useCallback((to: Place, options?: { replace?: boolean }) => navigate(pathOf(project.id, to), options), [project.id]);
  const href = useCallback((to: Place) => pathOf(project.id, to), [project.id]);
  const create = useCallback((request: CreateRequest = { kind: 'picture' }) => setCreating(request), []);
  const value = useMemo(
    () => ({ project, place, go, href, create, dev, userId: session.user.id }),
    [project, place, go, href, create, dev, session.user.id],
  );
  const choose = (id: string) => {
    localStorage.setItem(lastProject, id);
    navigate(pathOf(id, { page: place.page === 'shot' ? 'gallery' : place.page } as Place));
  };

  const makeHere = () => create(place.page === 'shot' ? { kind: 'picture', shotId: place.shotId } : undefined);

  useShortcuts(
    {
      c: makeHere,
      t: () => create({ kind: 'travel', ...(place.page === 'shot' ? { shotId: place.shotId } : {}) }),
      g: () => go({ page: 'gallery' }),
      q: () => go({ page: 'queue' }),
      w: () => go({ page: 'workers' }),
      b: () => go({ page: 'credits' }),
      p: () => document.getElementById('projects')?.togglePopover(),
      '?': () => setHelping(true),
    },
    shortcutsOn,
  );

  return (
    <ConsoleProvider value={value}>
      <div className={css.shell}>
        <button type="button" className={css.skip} onClick={skip}>
          Skip to the content
        </button>
        <aside className={css.rail}>
          <div className={css.brand}>
            <span className={css.bulb} aria-hidden="true" />
            <span className={css.brandName}>Darkroom</span>
          </div>
          <ProjectSwitcher projects={projects} project={project} choose={choose} />
          {phone ? null : <Nav place={place} className={css.nav} />}
          {wide ? (
            <div className={css.shots}>
              <ShotList />
            </div>
          ) : null}
          <div className={css.railFoot}>
            <LiveMark {...connection} />
            <button
              type="button"
              className={css.account}
              popoverTarget="account"
              aria-label={`Account of ${session.user.email ?? 'you'}`}
              data-testid="account"
            >
              <UserRound aria-hidden="true" />
              <span>{session.user.email}</span>
            </button>
          </div>
        </aside>
        <div className={css.body}>
          <ConnectionBanner {...connection} />
          <main id="main" className={css.main} tabIndex={-1}>
            <Suspense>
              <Page key={project.id} place={place} />
            </Suspense>
          </main>
        </div>
        {phone ? <Nav place={place} className={css.tabs} create={makeHere} /> : null}
      </div>

      <div id="account" popover="auto" className={css.accountMenu}>
        <p className={css.email}>{session.user.email}</p>
        <Button look="quiet" popoverTarget="account" popoverTargetAction="hide" onClick={() => setHelping(true)}>
          <Keyboard aria-hidden="true" /> Keyboard and help
        </Button>
        <Button look="quiet" onClick={signOut} data-testid="sign-out">
          <LogOut aria-hidden="true" /> Sign out
        </Button>
      </div>
      <Suspense>{creating ? <CreateDialog request={creating} onClose={() => setCreating(null)} /> : null}</Suspense>
      {helping ? <Help on={shortcutsOn} setOn={setShortcutsOn} onClose={() => setHelping(false)} /> : null}
    </ConsoleProvider>
  );
}

function skip() {
  document.getElementById('main')?.focus();
}

function Page({ place }: { place: Place }) {
  switch (place.page) {
    case 'gallery':
      return <GalleryPage />;
    case 'shot':
      return <ShotPage key={place.shotId} shotId={place.shotId} />;
    case 'queue':
      return <QueuePage />;
    case 'workers':
      return <WorkersPage />;
    case 'credits':
      return <CreditsPage />;
  }
}

function Nav({ place, className, create }: { place: Place; className?: string; create?: () => void }) {
  const { project, href } = useConsole();
  const account = useCredits();
  const open = useTasks({ projectId: project.id, statuses: openStatuses, limit: limits.open }).data ?? [];
  // A travel counts once, however many parts it has.
  const waiting = open.filter((task) => !task.orchestrator_task_id).length;
  const item = (to: Place & { page: 'gallery' | 'queue' | 'workers' | 'credits' }, icon: ReactNode, name: string, extra?: ReactNode) => (
    <li>
      <Link
        href={href(to)}
        aria-current={place.page === to.page || (to.page === 'gallery' && place.page === 'shot') ? 'page' : undefined}
        data-testid={`nav-${to.page}`}
      >
        {icon}
        <span>{name}</span>
        {extra}
      </Link>
    </li>
  );
  return (
    <nav className={className} aria-label="Main">
      <ul>
        {item({ page: 'gallery' }, <Images aria-hidden="true" />, 'Gallery')}
        {item(
          { page: 'queue' },
          <ListVideo aria-hidden="true" />,
          'Queue',
          waiting > 0 ? (
            <em className={css.badge} data-testid="open-tasks">
              {waiting >= 100 ? '99+' : waiting}
            </em>
          ) : null,
        )}
        {create ? (
          <li>
            <button type="button" className={css.make} onClick={create} aria-label="Create" data-testid="create">
              <Plus aria-hidden="true" />
            </button>
          </li>
        ) : null}
        {item({ page: 'workers' }, <Cpu aria-hidden="true" />, 'Workers')}
        {item(
          { page: 'credits' },
          <Coins aria-hidden="true" />,
          'Credits',
          account.data && !create ? (
            <em className={css.amount} data-testid="available">
              {credits(account.data.available)}
            </em>
          ) : null,
        )}
      </ul>
    </nav>
  );
}

function LiveMark({ status }: Connection) {
  const words = { live: 'Live', connecting: 'Connecting…', offline: 'Reconnecting…' };
  return (
    <span className={classes(css.mark, css[status])} data-testid="connection" data-status={status}>
      {words[status]}
    </span>
  );
}

function ConnectionBanner(connection: Connection) {
  const notice = useNotice(connection);
  return (
    <div aria-live="polite">
      {notice.kind === 'offline' ? (
        <p className={classes(css.banner, css.lost)} data-testid="banner-offline">
          <WifiOff aria-hidden="true" />
          <span>
            <strong>Reconnecting…</strong> What you see may be old. Work goes on without this page.
          </span>
        </p>
      ) : null}
      {notice.kind === 'back' ? (
        <p className={classes(css.banner, css.back)} data-testid="banner-back">
          <Zap aria-hidden="true" />
          <span>
            <strong>Back online:</strong> {notice.events === 0 ? 'nothing was missed' : `${count(notice.events, 'change')} caught up`}
          </span>
        </p>
      ) : null}
    </div>
  );
}
