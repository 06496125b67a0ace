//! Simulated rollouts, with simulated hosts and faults, and without clocks and files.

use std::collections::BTreeMap;

use hotswap_fleet::{
    Arm, Channel, Effect, HostReport, HostState, Id, Input, Mark, Memory, MoreOfHost, Order, Pace,
    Phase, Problem, ProblemKind, Reason, Rollout, Time,
};

use hotswap_protocol::{HostHealth, OfferAnswer};

#[path = "../src/numbers.rs"]
mod numbers;

use numbers::Numbers;

/// A random event with the probability 1 / `times`; never if `times` is 0.
fn happens_once_in(numbers: &mut Numbers, times: u64) -> bool {
    times > 0 && numbers.below(times) == 0
}

fn id(text: &str) -> Id {
    text.parse().unwrap()
}

/// The behaviour of the candidate release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Candidate {
    Good,
    Panics,
    Fails,
    Crashes,
    IsRefused,
    IsUnwell,
    IsNotCalled,
    /// Like the base: the same errors, panics and latencies.
    IsAlike,
    IsSlow,
}

/// The faults. Each number `n` means once in `n` ticks of a host; 0 for never.
#[derive(Debug, Clone, Copy, Default)]
struct Faults {
    host_killed: u64,
    host_comes: u64,
    report_lost: u64,
    /// A host loses its connection to the store for a while.
    cut_off: u64,
    /// The store loses the reports of all hosts.
    store_lost: u64,
    /// A controller is killed between writing its state and doing what follows from it.
    controller_killed: u64,
}

struct Host {
    report: HostReport,
    is_there: bool,
    was_there_at_first: bool,
    was_silent: bool,
    /// The time until which the host is cut off.
    cut_off_until_ms: u64,
    /// Whether the store has its report.
    is_kept: bool,
    /// Its answer to an offered release.
    says: Option<OfferAnswer>,
}

struct World {
    numbers: Numbers,
    candidate: Candidate,
    faults: Faults,
    channel: Channel,
    rollout: Rollout,
    hosts: Vec<Host>,
    now_ms: u64,
    clock_set_at_ms: Option<u64>,
    said: Vec<Phase>,
    /// Whether the store has lost reports recently.
    has_lost: bool,
    lost_at_ms: Option<u64>,
}

const TICK_MS: u64 = 500;

/// Seeds that found a fault once.
const KEPT: [u64; 1] = [45];

/// The number of seeds to try; `FLEET_SEEDS` sets a larger one.
fn seeds() -> u64 {
    std::env::var("FLEET_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(300)
}

fn rollout() -> Rollout {
    Rollout {
        channel: id("main"),
        release: id("new"),
        base: Some(id("old")),
        salt: "salt".to_owned(),
        by: "test".to_owned(),
        started_at_ms: 0,
        pace: Pace::fast(),
        plugins: vec!["world".to_owned()],
        changed: vec!["world".to_owned()],
        phase: Phase::Checking,
        step: 0,
        since_ms: 0,
        reason: None,
        resume: None,
        thresholds: BTreeMap::new(),
        base_arms: BTreeMap::new(),
        calls_before: 0,
        forgiven: std::collections::BTreeSet::new(),
        memory: Memory::default(),
        writes: 0,
    }
}

impl World {
    fn new(seed: u64, hosts: usize, candidate: Candidate, faults: Faults) -> Self {
        let mut channel = Channel::new(id("main"), 1);
        channel.set_base(Some(id("old")));
        let mut world = Self {
            numbers: Numbers::seeded(seed),
            candidate,
            faults,
            channel,
            rollout: rollout(),
            hosts: Vec::new(),
            now_ms: 0,
            clock_set_at_ms: None,
            said: Vec::new(),
            has_lost: false,
            lost_at_ms: None,
        };
        for _ in 0..hosts {
            world.add_host(true);
        }
        world
    }

    fn add_host(&mut self, was_there_at_first: bool) {
        let number = self.hosts.len();
        let report = HostReport {
            id: id(&format!("host-{number}")),
            channel: id("main"),
            name: "host".to_owned(),
            pid: 1,
            machine: None,
            socket: None,
            at_ms: self.now_ms,
            stratum: format!("toolchain {}", number % 2),
            state: HostState::Serving,
            release: Some(id("old")),
            builds: BTreeMap::new(),
            staged: None,
            problem: None,
            seen: Mark::default(),
            health: [("world".to_owned(), Arm::default())].into(),
            more: MoreOfHost::default(),
        };
        self.hosts.push(Host {
            report,
            is_there: true,
            was_there_at_first,
            was_silent: false,
            cut_off_until_ms: 0,
            is_kept: true,
            says: None,
        });
    }

    /// One tick of all agents and hosts.
    fn step_hosts(&mut self) {
        if happens_once_in(&mut self.numbers, self.faults.host_comes) {
            self.add_host(false);
        }
        let (faults, candidate, now_ms) = (self.faults, self.candidate, self.now_ms);
        if happens_once_in(&mut self.numbers, faults.store_lost) {
            self.lose_reports();
        }
        self.has_lost = self.lost_at_ms.is_some_and(|at_ms| now_ms < at_ms + 60_000);
        let numbers = &mut self.numbers;
        for host in self.hosts.iter_mut().filter(|host| host.is_there) {
            if happens_once_in(numbers, faults.cut_off) {
                (host.cut_off_until_ms, host.was_silent) =
                    (now_ms + 1000 * numbers.below(60), true);
            }
            let is_cut_off = now_ms < host.cut_off_until_ms;
            let report = &mut host.report;
            let is_new = |report: &HostReport| report.release == Some(id("new"));
            let calls = if candidate == Candidate::IsNotCalled { 0 } else { numbers.below(20) };
            let arm = report.health.get_mut("world").unwrap();
            arm.calls += calls;
            if report.release == Some(id("new")) {
                match candidate {
                    Candidate::Panics => arm.panics += u64::from(calls > 0),
                    Candidate::Fails => arm.errors += calls,
                    Candidate::IsAlike => arm.errors += u64::from(happens_once_in(numbers, 50)),
                    _ => {}
                }
                let own = HostHealth::unwell("made up");
                report.more.own_health = Some(own).filter(|_| candidate == Candidate::IsUnwell);
            } else {
                arm.errors += u64::from(happens_once_in(numbers, 50));
                report.more.own_health = None;
            }
            if matches!(candidate, Candidate::IsAlike | Candidate::IsSlow) {
                let is_slow = candidate == Candidate::IsSlow && report.release == Some(id("new"));
                let latencies = report.more.latencies.entry("world".to_owned()).or_default();
                for _ in 0..calls {
                    let tail = if happens_once_in(numbers, 100) { 8 } else { 1 };
                    let us = 100 * tail * (1 + numbers.below(2)) * if is_slow { 10 } else { 1 };
                    latencies.add((us * 1000).next_power_of_two(), 1);
                }
            }
            if is_new(report) && candidate == Candidate::Crashes && calls > 0 {
                (host.is_there, report.state, report.at_ms) = (false, HostState::Crashed, now_ms);
                report.problem = Some(problem(ProblemKind::Crash));
                continue;
            }
            if happens_once_in(numbers, faults.host_killed) {
                (host.is_there, report.state, report.at_ms) = (false, HostState::Died, now_ms);
                continue;
            }
            // Each agent is late by some ticks.
            if !is_cut_off && happens_once_in(numbers, 2) {
                if self.channel.candidate == Some(id("new")) {
                    report.staged = Some(id("new"));
                }
                let wanted = self.channel.wants(&report.id, &report.stratum).cloned();
                if report.release != wanted {
                    if wanted == Some(id("new")) && candidate == Candidate::IsRefused {
                        report.state = HostState::Refused;
                        report.problem = Some(problem(ProblemKind::Load));
                    } else if wanted == Some(id("new")) && host.says.is_some() {
                        report.more.offer.clone_from(&host.says);
                    } else {
                        report.release = wanted;
                        report.health.insert("world".to_owned(), Arm::default());
                        report.more.latencies.clear();
                        report.more.offer = None;
                    }
                } else {
                    report.state = HostState::Serving;
                }
                report.seen = self.channel.mark;
            }
            if is_cut_off {
                continue;
            }
            if happens_once_in(numbers, faults.report_lost) {
                host.was_silent = true;
            } else {
                (report.at_ms, host.is_kept) = (now_ms, true);
            }
        }
    }

    /// The store loses all reports. Running hosts report again.
    fn lose_reports(&mut self) {
        self.lost_at_ms = Some(self.now_ms);
        self.hosts.iter_mut().for_each(|host| host.is_kept = false);
    }

    fn step_controller(&mut self, order: Option<Order>) {
        let kept = self.hosts.iter().filter(|host| host.is_kept);
        let hosts: Vec<HostReport> = kept.map(|host| host.report.clone()).collect();
        let input = Input {
            time: Time {
                now_ms: self.now_ms,
                clock_set_at_ms: self.clock_set_at_ms,
                may_have_lost: self.has_lost,
            },
            hosts: &hosts,
            channel: &self.channel,
            sound: Some(Ok(())),
            order: order.map(|order| (order, "test")),
        };
        let (next, effects) = self.rollout.clone().step(&input);
        self.rollout = next;
        for effect in effects {
            match effect {
                Effect::Audit { phase, .. } => self.said.push(phase),
                Effect::Declare(_)
                    if happens_once_in(&mut self.numbers, self.faults.controller_killed) =>
                {
                    break;
                }
                Effect::Declare(desired) => {
                    let before = self.channel.mark;
                    desired.declare(&mut self.channel, &hosts);
                    assert!(
                        self.channel.mark > before,
                        "the mark of the channel does not increase"
                    );
                }
            }
        }
    }

    fn tick(&mut self) {
        self.now_ms += TICK_MS;
        self.step_hosts();
        self.step_controller(None);
        self.check();
    }

    /// The invariants that hold at any time.
    fn check(&self) {
        let runs = |host: &&Host| host.is_there && host.report.release == Some(id("new"));
        // Two groups of hosts, one host of each.
        if self.rollout.step == 0 && matches!(self.rollout.phase, Phase::Activating | Phase::Baking)
        {
            let known = |host: &&Host| host.was_there_at_first && !host.was_silent;
            let count = self.hosts.iter().filter(runs).filter(known).count();
            assert!(count <= 2, "{count} hosts run the candidate in the first step");
        }
        if matches!(self.rollout.phase, Phase::Checking | Phase::Staging) {
            assert_eq!(
                self.hosts.iter().filter(runs).count(),
                0,
                "a host runs the candidate before the rollout activates it"
            );
        }
    }

    fn run(&mut self) -> Phase {
        for _ in 0..5000 {
            self.tick();
            if self.rollout.phase.is_over() || self.rollout.phase == Phase::Paused {
                break;
            }
        }
        self.rollout.phase
    }
}

fn problem(kind: ProblemKind) -> Problem {
    Problem {
        kind,
        release: Some(id("new")),
        plugin: Some("world".to_owned()),
        message: "made up".to_owned(),
    }
}

#[test]
fn a_good_release_goes_through_all_steps_to_all_hosts() {
    let mut world = World::new(1, 80, Candidate::Good, Faults::default());
    assert_eq!(world.run(), Phase::Done);
    let step = [Phase::Activating, Phase::Baking];
    let expected =
        [&[Phase::Staging][..], &step, &step, &step, &step, &[Phase::Promoting, Phase::Done]];
    assert_eq!(world.said, expected.concat());
    assert_eq!(world.channel.base, Some(id("new")));
    assert_eq!(world.channel.earlier.last(), Some(&Some(id("old"))));
    assert!(world.hosts.iter().all(|host| host.report.release == Some(id("new"))));
}

#[test]
fn whatever_happens_a_bad_release_is_never_promoted_and_a_good_one_never_rolled_back() {
    let bad = [
        Candidate::Panics,
        Candidate::Fails,
        Candidate::Crashes,
        Candidate::IsRefused,
        Candidate::IsUnwell,
    ];
    let (mut done, mut rolled_back) = (0, 0);
    for seed in KEPT.into_iter().chain(0..seeds()) {
        let mut dice = Numbers::seeded(seed);
        let candidate = match dice.below(9) {
            0..3 => Candidate::Good,
            3 => Candidate::IsNotCalled,
            bad_one => bad[usize::try_from(bad_one).unwrap() - 4],
        };
        let mut rate =
            |rates: &[u64]| rates[usize::try_from(dice.below(rates.len() as u64)).unwrap()];
        let faults = Faults {
            host_killed: rate(&[0, 0, 2000, 200]),
            host_comes: rate(&[0, 50, 10]),
            report_lost: rate(&[0, 3, 30]),
            controller_killed: rate(&[0, 2, 5]),
            cut_off: rate(&[0, 0, 100]),
            store_lost: rate(&[0, 0, 0, 200]),
        };
        let hosts = rate(&[1, 2, 3, 10, 40]);
        let mut world = World::new(seed, usize::try_from(hosts).unwrap(), candidate, faults);
        let mut phase = world.run();
        let context =
            format!("seed {seed}: {candidate:?}, {faults:?}, {hosts} hosts: {:?}", world.rollout);
        match candidate {
            Candidate::Good => {
                assert!(matches!(phase, Phase::Done | Phase::Paused), "{context}");
                done += usize::from(phase == Phase::Done);
            }
            Candidate::IsNotCalled => assert_eq!(phase, Phase::Paused, "{context}"),
            _ => {
                assert!(matches!(phase, Phase::RolledBack | Phase::Paused), "{context}");
                rolled_back += usize::from(phase == Phase::RolledBack);
            }
        }
        if phase == Phase::Paused {
            world.step_controller(Some(Order::Abort));
            phase = world.run();
            if phase == Phase::Paused {
                // The rollout waits for hosts that are cut off. They do not roll back while they are unreachable.
                let reason = &world.rollout.reason;
                assert!(matches!(reason, Some(Reason::NotBack { .. })), "{context}: {reason:?}");
                assert!(
                    faults.cut_off > 0 || faults.report_lost > 0 || faults.store_lost > 0,
                    "{context}"
                );
                world.faults = Faults::default();
                world.hosts.iter_mut().for_each(|host| host.cut_off_until_ms = 0);
                world.step_controller(Some(Order::Resume));
                phase = world.run();
            }
            assert_eq!(phase, Phase::RolledBack, "{context}");
        }
        // When the faults end, all hosts reach the declared release.
        world.faults = Faults::default();
        world.candidate = Candidate::Good;
        world.hosts.iter_mut().for_each(|host| host.cut_off_until_ms = 0);
        for _ in 0..40 {
            world.tick();
        }
        let declared = &world.channel;
        for host in world.hosts.iter().filter(|host| host.is_there) {
            let report = &host.report;
            assert_eq!(
                report.release.as_ref(),
                declared.wants(&report.id, &report.stratum),
                "{context}"
            );
        }
        assert_eq!(declared.candidate, None, "{context}");
    }
    assert!(done > 60, "only {done} good releases were rolled out");
    assert!(rolled_back > 120, "only {rolled_back} bad ones were rolled back");
}

#[test]
fn a_host_that_is_killed_while_it_bakes_is_replaced_by_another() {
    let mut world = World::new(3, 20, Candidate::Good, Faults::default());
    while world.rollout.phase != Phase::Baking {
        world.tick();
    }
    let now_ms = world.now_ms;
    let is_candidate = |host: &&mut Host| host.report.release == Some(id("new"));
    let killed = world.hosts.iter_mut().find(is_candidate).unwrap();
    (killed.is_there, killed.report.state, killed.report.at_ms) = (false, HostState::Died, now_ms);
    let killed = killed.report.id.clone();
    assert_eq!(world.run(), Phase::Done);
    let others = world.hosts.iter().filter(|host| host.report.id != killed);
    assert!({ others }.all(|host| host.report.release == Some(id("new"))));
}

#[test]
fn a_clock_that_is_set_stops_no_rollout_and_hides_no_crash() {
    const DAY_MS: u64 = 86_400_000;
    for candidate in [Candidate::Good, Candidate::Crashes] {
        for to_ms in [DAY_MS, 3 * DAY_MS] {
            let mut world = World::new(5, 20, Candidate::IsNotCalled, Faults::default());
            world.now_ms = 2 * DAY_MS;
            (world.rollout.started_at_ms, world.rollout.since_ms) = (world.now_ms, world.now_ms);
            while world.rollout.phase != Phase::Baking {
                world.tick();
            }
            (world.now_ms, world.clock_set_at_ms) = (to_ms, Some(to_ms));
            world.step_controller(None);
            assert_eq!(world.rollout.phase, Phase::Baking, "no time has passed");
            world.candidate = candidate;
            let bad = candidate == Candidate::Crashes;
            assert_eq!(world.run(), if bad { Phase::RolledBack } else { Phase::Done });
            let crashed = world.hosts.iter().filter(|host| host.report.state == HostState::Crashed);
            assert_eq!(crashed.count() > 0, bad);
        }
    }
}

#[test]
fn a_host_that_falls_silent_after_the_clock_was_set_back_is_noticed() {
    let mut world = World::new(4, 20, Candidate::Good, Faults::default());
    world.now_ms = 86_400_000;
    while world.rollout.phase != Phase::Baking {
        world.tick();
    }
    let runs = |host: &&mut Host| host.report.release == Some(id("new"));
    world.hosts.iter_mut().filter(runs).for_each(|host| host.is_there = false);
    world.now_ms /= 2;
    world.clock_set_at_ms = Some(world.now_ms);
    assert_eq!(world.run(), Phase::Paused);
    assert!(matches!(world.rollout.reason, Some(Reason::Silent { ref hosts }) if hosts.len() == 2));
}

#[test]
fn two_hosts_that_end_with_the_candidate_pause_the_rollout() {
    let mut world = World::new(4, 20, Candidate::Good, Faults::default());
    while world.rollout.phase != Phase::Baking {
        world.tick();
    }
    let now_ms = world.now_ms;
    for host in world.hosts.iter_mut().filter(|host| host.report.release == Some(id("new"))) {
        (host.is_there, host.report.state, host.report.at_ms) = (false, HostState::Died, now_ms);
    }
    assert_eq!(world.run(), Phase::Paused);
    assert!(
        matches!(world.rollout.reason, Some(Reason::Died { ref hosts, .. }) if hosts.len() == 2)
    );
    world.step_controller(Some(Order::Resume));
    assert_eq!(world.run(), Phase::Done);
}

#[test]
fn two_hosts_that_fall_silent_with_the_candidate_pause_the_rollout() {
    let mut world = World::new(4, 20, Candidate::Good, Faults::default());
    while world.rollout.phase != Phase::Baking {
        world.tick();
    }
    let runs = |host: &&mut Host| host.report.release == Some(id("new"));
    world.hosts.iter_mut().filter(runs).for_each(|host| host.is_there = false);
    assert_eq!(world.run(), Phase::Paused);
    assert!(matches!(world.rollout.reason, Some(Reason::Silent { ref hosts }) if hosts.len() == 2));
    let runs = world.hosts.iter().filter(|host| host.report.release == Some(id("new")));
    assert_eq!(runs.count(), 2, "no other host loads the candidate");
    world.step_controller(Some(Order::Resume));
    assert_eq!(world.run(), Phase::Done);
}

#[test]
fn without_hosts_or_calls_a_rollout_pauses_and_can_be_promoted_by_hand() {
    let mut world = World::new(5, 0, Candidate::Good, Faults::default());
    assert_eq!(world.run(), Phase::Paused);
    assert_eq!(world.rollout.reason, Some(Reason::NoHosts));

    let mut world = World::new(6, 4, Candidate::IsNotCalled, Faults::default());
    assert_eq!(world.run(), Phase::Paused);
    assert_eq!(world.rollout.reason, Some(Reason::TooLittleEvidence { calls: 0, needed: 3 }));
    world.step_controller(Some(Order::Promote));
    assert_eq!(world.run(), Phase::Done);
    assert_eq!(world.channel.base, Some(id("new")));
}

#[test]
fn a_paused_release_that_panics_is_rolled_back() {
    let mut world = World::new(7, 4, Candidate::IsNotCalled, Faults::default());
    while world.rollout.phase != Phase::Baking {
        world.tick();
    }
    world.step_controller(Some(Order::Pause));
    for _ in 0..200 {
        world.tick();
    }
    assert_eq!(world.rollout.phase, Phase::Paused, "a pause has no time limit");
    world.candidate = Candidate::Panics;
    while world.rollout.phase == Phase::Paused {
        world.tick();
    }
    assert_eq!(world.run(), Phase::RolledBack);
    assert!(matches!(world.rollout.reason, Some(Reason::Panicked { .. })));
}

#[test]
fn a_pinned_host_is_left_alone() {
    let mut world = World::new(8, 6, Candidate::Good, Faults::default());
    world.channel.pins.insert(id("host-2"), id("old"));
    assert_eq!(world.run(), Phase::Done);
    assert_eq!(world.hosts[2].report.release, Some(id("old")));
}

#[test]
fn an_unsound_release_goes_to_no_host() {
    let mut channel = Channel::new(id("main"), 1);
    let mut rollout = rollout();
    rollout.base = None;
    for phase in [Phase::RollingBack, Phase::RolledBack] {
        let input = Input {
            time: Time { now_ms: 0, clock_set_at_ms: None, may_have_lost: false },
            hosts: &[],
            channel: &channel,
            sound: Some(Err(Reason::Unsound { message: "altered".to_owned() })),
            order: None,
        };
        let (next, effects) = rollout.step(&input);
        rollout = next;
        for effect in effects {
            if let Effect::Declare(desired) = effect {
                desired.declare(&mut channel, &[]);
            }
        }
        assert_eq!(rollout.phase, phase);
        assert_eq!((&channel.base, &channel.candidate), (&None, &None));
    }
    assert_eq!(rollout.reason, Some(Reason::Unsound { message: "altered".to_owned() }));
}

#[test]
fn a_declaration_that_comes_too_late_has_no_effect() {
    // This covers each phase in which a user may end the rollout while a controller is about to declare something.
    let mut world = World::new(3, 3, Candidate::Good, Faults::default());
    let mut tried = 0;
    while !world.rollout.phase.is_over() {
        for order in [Order::Abort, Order::Promote] {
            let mut other = World::new(3, 3, Candidate::Good, Faults::default());
            (other.rollout, other.channel) = (world.rollout.clone(), world.channel.clone());
            other.now_ms = world.now_ms;
            for (to, from) in other.hosts.iter_mut().zip(&world.hosts) {
                to.report = from.report.clone();
            }
            // The first controller reads the channel, writes the state, and stops before its declaration.
            let read = other.channel.clone();
            let before = other.rollout.clone();
            other.now_ms += TICK_MS;
            other.step_controller(None);
            let late = std::mem::replace(&mut other.channel, read.clone());
            if late == read || before == other.rollout {
                continue;
            }
            tried += 1;
            // The second controller continues, gets the order to end the rollout, and ends it.
            other.step_controller(Some(order));
            let ended = other.run();
            assert!(ended.is_over(), "{ended:?}");
            // The first controller continues, and writes the channel if the channel is unchanged.
            assert_ne!(other.channel, read, "{order:?} after {:?}", before.phase);
        }
        world.tick();
    }
    assert!(tried > 3, "{tried}");
}

#[test]
fn a_declaration_is_newer_than_all_that_hosts_have_seen() {
    let mut world = World::new(9, 3, Candidate::Good, Faults::default());
    world.step_controller(None);
    assert_eq!(world.rollout.phase, Phase::Staging);
    // An older copy of the store was restored, so hosts have seen newer declarations than it has. They follow no
    // rollout of that copy.
    let copy = world.channel.clone();
    world.hosts[1].report.seen = Mark { epoch: 1, seq: 40 };
    world.hosts[2].report.seen = Mark { epoch: 0, seq: 90 };
    world.hosts.iter_mut().for_each(|host| host.report.staged = Some(id("new")));
    for order in [None, Some(Order::Pause), None] {
        world.step_controller(order);
        assert_eq!(world.rollout.reason, Some(Reason::OlderCopy { channel: id("main") }));
        assert_eq!((world.rollout.phase, &world.channel), (Phase::Paused, &copy));
    }
    // Until somebody asks for it.
    world.step_controller(Some(Order::Resume));
    assert_eq!(world.channel.candidate, Some(id("new")));
    assert_eq!(world.channel.mark, Mark { epoch: 1, seq: 41 });
    world.step_controller(None);
    assert_eq!(world.rollout.phase, Phase::Activating);
}

#[test]
fn a_superseded_rollout_leaves_no_candidate() {
    let mut world = World::new(3, 3, Candidate::Good, Faults::default());
    while world.rollout.phase != Phase::Baking {
        world.tick();
    }
    // The program that supersedes it is killed before it declares anything else.
    world.step_controller(Some(Order::Supersede));
    assert_eq!(world.rollout.phase, Phase::Superseded);
    world.step_controller(None);
    assert_eq!((&world.channel.base, &world.channel.candidate), (&Some(id("old")), &None));
    // It declares nothing more, whatever others declare.
    world.channel.candidate = Some(id("new"));
    let declared = world.channel.clone();
    world.step_controller(None);
    assert_eq!(world.channel, declared);
}

#[test]
fn hardly_any_equal_release_is_rolled_back() {
    let mut rolled_back = Vec::new();
    let mut done = 0;
    for seed in 0..seeds() {
        let mut world = World::new(seed, 20, Candidate::IsAlike, Faults::default());
        match world.run() {
            Phase::Done => done += 1,
            Phase::RolledBack => rolled_back.push((seed, world.rollout.reason.clone())),
            phase => panic!("seed {seed}: {phase:?}: {:?}", world.rollout.reason),
        }
    }
    let allowed = usize::try_from(seeds()).unwrap() / 100;
    assert!(rolled_back.len() < allowed, "{rolled_back:?}, and {done} came through");
}

#[test]
fn a_release_with_slower_calls_is_rolled_back() {
    let mut world = World::new(11, 200, Candidate::IsSlow, Faults::default());
    assert_eq!(world.run(), Phase::RolledBack);
    let reason = world.rollout.reason.clone();
    assert!(matches!(reason, Some(Reason::Slower { .. })), "{reason:?}");
    assert!(reason.unwrap().to_string().starts_with("world is slower: 99 % of"));
}

#[test]
fn a_host_that_was_unhealthy_before_causes_no_rollback() {
    let mut world = World::new(12, 4, Candidate::IsUnwell, Faults::default());
    // These hosts are unhealthy with any release.
    for _ in 0..3 {
        let unwell = Some(HostHealth::unwell("made up"));
        world.tick();
        world.hosts.iter_mut().for_each(|host| host.report.more.own_health.clone_from(&unwell));
        world.step_controller(None);
    }
    world.rollout.memory.unwell = world.hosts.iter().map(|host| host.report.id.clone()).collect();
    while world.rollout.phase != Phase::Baking {
        world.tick();
        let all = world.hosts.iter().map(|host| host.report.id.clone());
        world.rollout.memory.unwell = all.collect();
    }
    world.tick();
    assert_ne!(world.rollout.phase, Phase::RollingBack, "{:?}", world.rollout.reason);
    world.rollout.memory.unwell.clear();
    assert_eq!(world.run(), Phase::RolledBack);
    assert!(matches!(world.rollout.reason, Some(Reason::Unwell { .. })));
}

#[test]
fn a_host_that_refuses_is_skipped_and_one_that_postpones_is_waited_for() {
    let no = OfferAnswer::No { reason: "a tournament".to_owned() };
    let mut world = World::new(13, 6, Candidate::Good, Faults::default());
    world.hosts[0].says = Some(no);
    assert_eq!(world.run(), Phase::Done);
    let old: Vec<&Host> =
        world.hosts.iter().filter(|host| host.report.release == Some(id("old"))).collect();
    assert_eq!(old.len(), 1);
    assert_eq!(old[0].report.id, id("host-0"));

    let later = OfferAnswer::Later { reason: "a match is running".to_owned() };
    let mut world = World::new(13, 6, Candidate::Good, Faults::default());
    world.hosts.iter_mut().for_each(|host| host.says = Some(later.clone()));
    assert_eq!(world.run(), Phase::Paused);
    let reason = world.rollout.reason.clone();
    assert!(
        matches!(reason, Some(Reason::NotActive { ref hosts }) if hosts.len() == 2),
        "{reason:?}"
    );
    world.hosts.iter_mut().for_each(|host| host.says = None);
    world.step_controller(Some(Order::Resume));
    assert_eq!(world.run(), Phase::Done);
}

#[test]
fn hosts_whose_reports_the_store_has_lost_are_not_treated_as_gone() {
    let mut world = World::new(14, 40, Candidate::Good, Faults::default());
    while world.rollout.phase != Phase::Baking {
        world.tick();
    }
    let chosen = world.rollout.thresholds.clone();
    world.lose_reports();
    // Some hosts have reported again, and the others are cut off.
    let until_ms = world.now_ms + 30_000;
    world.hosts.iter_mut().skip(10).for_each(|host| {
        (host.cut_off_until_ms, host.was_silent) = (until_ms, true);
    });
    while world.now_ms < until_ms - TICK_MS {
        world.tick();
        assert_eq!(
            world.rollout.thresholds, chosen,
            "the thresholds of a running rollout do not change"
        );
    }
    assert_eq!(world.run(), Phase::Done);
}
