"""The sentences that the synthetic corpus speaks: the same few hundred orders in five languages.

A sentence is a verb, an object and an ending, combined so that the grammar holds in every language ("close
the door now", "cierra la puerta ahora", "schließe die Tür jetzt"). Its group is its object, so the test
sentences hold nouns that training never speaks.
"""

from dataclasses import dataclass

from harness.seeding import derive_seed

LANGUAGES = ("en", "es", "fr", "it", "de")
PROMPTS_PER_OBJECT = 8

VERBS = """
open|abre|ouvre|apri|öffne
close|cierra|ferme|chiudi|schließe
find|busca|trouve|trova|finde
bring|trae|apporte|porta|bringe
paint|pinta|peins|dipingi|male
clean|limpia|nettoie|pulisci|putze
sell|vende|vends|vendi|verkaufe
buy|compra|achète|compra|kaufe
draw|dibuja|dessine|disegna|zeichne
move|mueve|déplace|sposta|bewege
watch|mira|regarde|guarda|beobachte
hide|esconde|cache|nascondi|verstecke
repair|repara|répare|ripara|repariere
describe|describe|décris|descrivi|beschreibe
choose|elige|choisis|scegli|wähle
show|muestra|montre|mostra|zeige
"""

OBJECTS = """
the door|la puerta|la porte|la porta|die Tür
the window|la ventana|la fenêtre|la finestra|das Fenster
the table|la mesa|la table|il tavolo|den Tisch
the chair|la silla|la chaise|la sedia|den Stuhl
the letter|la carta|la lettre|la lettera|den Brief
the book|el libro|le livre|il libro|das Buch
the house|la casa|la maison|la casa|das Haus
the garden|el jardín|le jardin|il giardino|den Garten
the bridge|el puente|le pont|il ponte|die Brücke
the boat|el barco|le bateau|la barca|das Boot
the bicycle|la bicicleta|le vélo|la bicicletta|das Fahrrad
the train|el tren|le train|il treno|den Zug
the kitchen|la cocina|la cuisine|la cucina|die Küche
the mirror|el espejo|le miroir|lo specchio|den Spiegel
the lamp|la lámpara|la lampe|la lampada|die Lampe
the clock|el reloj|l'horloge|l'orologio|die Uhr
the key|la llave|la clé|la chiave|den Schlüssel
the box|la caja|la boîte|la scatola|die Kiste
the bottle|la botella|la bouteille|la bottiglia|die Flasche
the shirt|la camisa|la chemise|la camicia|das Hemd
the hat|el sombrero|le chapeau|il cappello|den Hut
the coat|el abrigo|le manteau|il cappotto|den Mantel
the shoes|los zapatos|les chaussures|le scarpe|die Schuhe
the horse|el caballo|le cheval|il cavallo|das Pferd
the bird|el pájaro|l'oiseau|l'uccello|den Vogel
the fish|el pez|le poisson|il pesce|den Fisch
the flowers|las flores|les fleurs|i fiori|die Blumen
the tree|el árbol|l'arbre|l'albero|den Baum
the apples|las manzanas|les pommes|le mele|die Äpfel
the bread|el pan|le pain|il pane|das Brot
the cheese|el queso|le fromage|il formaggio|den Käse
the soup|la sopa|la soupe|la minestra|die Suppe
the picture|el cuadro|le tableau|il quadro|das Bild
the newspaper|el periódico|le journal|il giornale|die Zeitung
the ticket|el billete|le billet|il biglietto|die Fahrkarte
the suitcase|la maleta|la valise|la valigia|den Koffer
the money|el dinero|l'argent|il denaro|das Geld
the guitar|la guitarra|la guitare|la chitarra|die Gitarre
the piano|el piano|le piano|il pianoforte|das Klavier
the machine|la máquina|la machine|la macchina|die Maschine
the umbrella|el paraguas|le parapluie|l'ombrello|den Regenschirm
the knife|el cuchillo|le couteau|il coltello|das Messer
the church|la iglesia|l'église|la chiesa|die Kirche
the school|la escuela|l'école|la scuola|die Schule
the village|el pueblo|le village|il paese|das Dorf
the mountain|la montaña|la montagne|la montagna|den Berg
the hospital|el hospital|l'hôpital|l'ospedale|das Krankenhaus
the candles|las velas|les bougies|le candele|die Kerzen
"""

ENDINGS = """
now|ahora|maintenant|adesso|jetzt
today|hoy|aujourd'hui|oggi|heute
tomorrow morning|mañana por la mañana|demain matin|domani mattina|morgen früh
this evening|esta noche|ce soir|questa sera|heute Abend
again|otra vez|encore une fois|ancora una volta|noch einmal
quickly|rápidamente|rapidement|velocemente|schnell
please|por favor|s'il te plaît|per favore|bitte
with me|conmigo|avec moi|con me|mit mir
before dinner|antes de la cena|avant le dîner|prima di cena|vor dem Abendessen
after lunch|después de la comida|après le déjeuner|dopo pranzo|nach dem Mittagessen
for my friend|para mi amigo|pour mon ami|per il mio amico|für meinen Freund
on monday|el lunes|lundi|lunedì|am Montag
"""


@dataclass(frozen=True)
class Prompt:
    """One sentence to speak. `key` and `group` are the same in every language."""

    key: str
    group: str
    language: str
    text: str


def synthetic_prompts() -> tuple[Prompt, ...]:
    """Return all sentences: `PROMPTS_PER_OBJECT` for each object, in each language, always the same."""
    verbs, objects, endings = (_rows(table) for table in (VERBS, OBJECTS, ENDINGS))
    prompts = []
    for thing in objects:
        name = thing[0].removeprefix("the ")
        # Hashes rather than a generator's draws: they are the same under every version of NumPy.
        pairs = sorted(
            ((verb, ending) for verb in verbs for ending in endings),
            key=lambda pair: derive_seed(0, "synthetic prompts", name, pair[0][0], pair[1][0]),
        )
        for verb, ending in pairs[:PROMPTS_PER_OBJECT]:
            key = f"{verb[0]}-{name}-{ending[0].replace(' ', '_')}"
            for index, language in enumerate(LANGUAGES):
                text = f"{verb[index]} {thing[index]} {ending[index]}"
                prompts.append(Prompt(key=key, group=name, language=language, text=text))
    return tuple(prompts)


def _rows(table: str) -> list[list[str]]:
    rows = [line.split("|") for line in table.split("\n") if line]
    assert all(len(row) == len(LANGUAGES) for row in rows), "a row of the tables above lacks a language"
    return rows
