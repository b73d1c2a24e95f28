//! The automaton of Aho and Corasick: for each byte that is read, the longest
//! end of what was read that is the beginning of something looked for.
//!
//! Of our own because it holds secrets: it is wiped when dropped, and made in
//! memory of its final size, so that no growth leaves copies behind.

use std::collections::VecDeque;
use zeroize::{Zeroize, Zeroizing};

/// Where nothing of what was read counts.
pub(super) const ROOT: u32 = 0;
const NONE: u32 = u32::MAX;

pub(crate) struct Automaton {
    nodes: Vec<Node>,
    /// The root's children, by their byte.
    first: Vec<u32>,
    labels: Vec<String>,
}

struct Node {
    byte: u8,
    depth: u32,
    /// The first of its children.
    child: u32,
    /// The next child of its parent.
    sibling: u32,
    /// The longest proper end of it that is a node.
    fail: u32,
    /// What is complete here.
    label: u32,
    /// The nearest of itself and its ends at which something is complete.
    complete: u32,
    /// Length and label of one thing that goes through here.
    goal: (u32, u32),
}

impl Automaton {
    /// Of patterns, each with the number of its label.
    pub(super) fn new(patterns: &[(usize, Zeroizing<Vec<u8>>)], labels: Vec<String>) -> Self {
        let most = patterns.iter().map(|(_, pattern)| pattern.len()).sum::<usize>() + 1;
        let mut made = Self { nodes: Vec::with_capacity(most), first: vec![NONE; 256], labels };
        made.nodes.push(Node::new(0, 0, (0, NONE)));
        for (label, pattern) in patterns {
            made.insert(number(*label), pattern);
        }
        made.link();
        made
    }

    fn insert(&mut self, label: u32, pattern: &[u8]) {
        let mut at = ROOT;
        for &byte in pattern {
            at = match self.child(at, byte) {
                NONE => {
                    let new = number(self.nodes.len());
                    let mut node =
                        Node::new(byte, self.depth(at) + 1, (number(pattern.len()), label));
                    node.sibling = self.node(at).child;
                    self.nodes.push(node);
                    self.change(at, |parent| parent.child = new);
                    if at == ROOT
                        && let Some(first) = self.first.get_mut(usize::from(byte))
                    {
                        *first = new;
                    }
                    new
                }
                child => child,
            };
        }
        if self.node(at).label == NONE {
            self.change(at, |node| {
                node.label = label;
                node.complete = at;
            });
        }
    }

    /// Sets what a node falls back to, from the root outwards.
    fn link(&mut self) {
        let mut queue = VecDeque::from([ROOT]);
        while let Some(at) = queue.pop_front() {
            let mut child = self.node(at).child;
            while child != NONE {
                let fail = match at {
                    ROOT => ROOT,
                    _ => self.step(self.node(at).fail, self.node(child).byte),
                };
                let inherited = self.node(fail).complete;
                self.change(child, |node| {
                    node.fail = fail;
                    if node.complete == NONE {
                        node.complete = inherited;
                    }
                });
                queue.push_back(child);
                child = self.node(child).sibling;
            }
        }
    }

    /// The state after one more byte.
    pub(super) fn step(&self, mut state: u32, byte: u8) -> u32 {
        loop {
            match self.child(state, byte) {
                NONE if state == ROOT => return ROOT,
                NONE => state = self.node(state).fail,
                child => return child,
            }
        }
    }

    /// How many bytes that were read last are the beginning of something.
    pub(super) fn depth(&self, state: u32) -> u32 {
        self.node(state).depth
    }

    /// Length and label of the longest thing that is complete here.
    pub(super) fn complete(&self, state: u32) -> Option<(usize, u32)> {
        let complete = self.node(state).complete;
        (complete != NONE).then(|| {
            let node = self.node(complete);
            (node.depth as usize, node.label)
        })
    }

    /// Length and label of one thing whose beginning this is.
    pub(super) fn goal(&self, state: u32) -> (usize, u32) {
        let (length, label) = self.node(state).goal;
        (length as usize, label)
    }

    /// What stands in the place of something.
    pub(super) fn label(&self, label: u32) -> &str {
        self.labels.get(label as usize).map_or("[redacted]", String::as_str)
    }

    /// The longest thing that is looked for, in bytes.
    pub(super) fn longest(&self) -> usize {
        self.nodes.iter().map(|node| node.depth as usize).max().unwrap_or_default()
    }

    fn child(&self, at: u32, byte: u8) -> u32 {
        if at == ROOT {
            return self.first.get(usize::from(byte)).copied().unwrap_or(NONE);
        }
        let mut child = self.node(at).child;
        while child != NONE && self.node(child).byte != byte {
            child = self.node(child).sibling;
        }
        child
    }

    fn node(&self, at: u32) -> &Node {
        const NOTHING: &Node = &Node::new(0, 0, (0, NONE));
        self.nodes.get(at as usize).unwrap_or(NOTHING)
    }

    fn change(&mut self, at: u32, change: impl FnOnce(&mut Node)) {
        if let Some(node) = self.nodes.get_mut(at as usize) {
            change(node);
        }
    }
}

impl Node {
    const fn new(byte: u8, depth: u32, goal: (u32, u32)) -> Self {
        Self {
            byte,
            depth,
            child: NONE,
            sibling: NONE,
            fail: ROOT,
            label: NONE,
            complete: NONE,
            goal,
        }
    }
}

impl Drop for Automaton {
    fn drop(&mut self) {
        self.nodes.iter_mut().for_each(|node| node.byte.zeroize());
        self.first.zeroize();
    }
}

/// Of a count that memory bounds far below.
fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(NONE)
}
